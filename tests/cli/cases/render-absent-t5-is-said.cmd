octavo-render --device cpu --model "$MODELS/no-t5" --prompt 'a red circle' --out images --steps 1 --size 64x64 2>&1 | grep -i t5
