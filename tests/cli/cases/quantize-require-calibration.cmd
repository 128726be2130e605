octavo-quantize --model "$MODELS/folder" --policy all --require-calibration --out out.safetensors
