octavo-quantize --model "$MODELS/single.safetensors" --policy mlp-attn --calibration "$MODELS/calibration.json" --plan
ls
