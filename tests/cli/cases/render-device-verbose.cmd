octavo-render --device cpu --model "$MODELS/folder" --prompt x --out images --steps 1 --size 64x64 --verbose 2>&1 >log | grep ' ran'
