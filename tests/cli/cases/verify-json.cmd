octavo-verify "$MODELS/weight-only.safetensors" --source "$MODELS/folder" --policy all --json
