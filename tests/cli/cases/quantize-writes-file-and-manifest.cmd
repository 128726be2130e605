octavo-quantize --model "$MODELS/single.safetensors" --policy mlp-attn --calibration "$MODELS/calibration.json" --out out.safetensors
ls
sha256sum -c --strict out.safetensors.sha256
cmp out.safetensors "$MODELS/fp8.safetensors"
