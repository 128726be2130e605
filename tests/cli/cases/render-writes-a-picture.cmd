octavo-render --device cpu --model "$MODELS/folder" --prompt 'a red circle' --out images --steps 2 --size 64x64 --quiet
ls images
