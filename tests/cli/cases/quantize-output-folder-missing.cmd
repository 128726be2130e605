octavo-quantize --model "$MODELS/folder" --policy all --out no/such/out.safetensors
