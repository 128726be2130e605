octavo-render --device cpu --model "$MODELS/folder" --prompt x --out images --size 64x64 --vram 8G
