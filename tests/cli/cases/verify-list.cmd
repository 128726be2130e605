octavo-verify "$MODELS/weight-only.safetensors" --list | head -n 30
