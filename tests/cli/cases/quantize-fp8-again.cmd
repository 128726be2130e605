octavo-quantize --model "$MODELS/fp8.safetensors" --policy all --out out.safetensors
