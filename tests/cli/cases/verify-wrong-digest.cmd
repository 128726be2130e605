octavo-verify "$MODELS/fp8.safetensors" --sha256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
