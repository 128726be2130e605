cp "$MODELS/fp8.safetensors" .
octavo-verify fp8.safetensors --require-sha256 | grep -e FAIL -e verdict
octavo-verify "$MODELS/fp8.safetensors" --require-sha256 | grep -e FAIL -e verdict
