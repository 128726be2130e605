octavo-render --device cpu --model "$MODELS/folder" --prompt 'a red circle' --out a --steps 2 --size 64x64 --quiet
octavo-regress --compare a/0000-0.png a/0000-0.png --json
