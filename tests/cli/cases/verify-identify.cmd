octavo-verify "$MODELS/fp8.safetensors" --identify | head -n 3
tail -c +43153 "$MODELS/fp8.safetensors" | sha256sum | cut -c1-12
octavo-verify "$MODELS/fp8.safetensors" --identify --json | grep -o '"autov.":"[0-9a-f]*"'
