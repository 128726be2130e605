octavo-verify "$MODELS/fp8.safetensors" --sha256 0123
