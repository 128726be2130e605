octavo-render --device cpu --model "$MODELS/folder" --prompt 'a' --out a --steps 1 --size 64x64 --quiet
octavo-render --device cpu --model "$MODELS/folder" --prompt 'a' --out b --steps 1 --size 64x80 --quiet
octavo-regress --compare a/0000-0.png b/0000-0.png
