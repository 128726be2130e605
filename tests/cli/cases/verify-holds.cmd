octavo-verify "$MODELS/fp8.safetensors" --source "$MODELS/single.safetensors" --policy mlp-attn --calibration "$MODELS/calibration.json"
