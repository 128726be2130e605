octavo-verify "$MODELS/fp8.safetensors" --device cuda
