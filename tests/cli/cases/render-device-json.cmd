octavo-render --device cpu --model "$MODELS/folder" --prompt x --out images --steps 1 --size 64x64 --json --quiet >log
grep -o '"executed_layers.*"peak_device_memory_bytes":[0-9]*' log
