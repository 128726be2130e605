octavo-render --device cpu --model "$MODELS/folder" --prompt 'a red circle' --out a --steps 2 --size 64x64 --quiet
octavo-render --device cpu --model "$MODELS/folder" --prompt 'a red circle' --out b --steps 2 --size 64x64 --quiet
cmp a/0000-0.png b/0000-0.png && echo same
