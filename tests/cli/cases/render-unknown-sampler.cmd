octavo-render --model "$MODELS/folder" --prompt x --out images --sampler ddim
