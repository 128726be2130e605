head -c 300000 "$MODELS/fp8.safetensors" >cut.safetensors
octavo-verify cut.safetensors
