octavo-render --device cpu --model "$MODELS/folder" --prompt 'a' --out a --steps 1 --size 64x64 --quiet
judge --picture a/0000-0.png --caption 'a red star'
