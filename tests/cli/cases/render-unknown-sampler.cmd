octavo-render --device cpu --model "$MODELS/folder" --prompt x --out images --sampler ddim
