octavo-verify "$MODELS/weight-only.safetensors" --source "$MODELS/folder" --min-sqnr-db 60 | grep -e FAIL -e verdict | head -n 2
