octavo-render --model "$MODELS/folder" --prompt x --out images --device gpu
