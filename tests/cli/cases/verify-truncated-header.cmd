head -c 1000 "$MODELS/fp8.safetensors" >cut.safetensors
octavo-verify cut.safetensors
