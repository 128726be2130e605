octavo-render --device cpu --model "$MODELS/all.safetensors" --prompt x --out images --size 64x64
