octavo-quantize --model "$MODELS/folder" --policy all --out out.safetensors --json
