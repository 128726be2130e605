octavo-verify "$MODELS/fp8.safetensors" --policy mlp | grep -e FAIL -e verdict | head -n 3
