cp "$MODELS/fp8.safetensors" fp8.safetensors
cp "$MODELS/fp8.safetensors.sha256" .
patch-file flip fp8.safetensors -1
octavo-verify fp8.safetensors
