octavo-quantize --model "$MODELS/folder" --policy all --qmax 500 --out out.safetensors
