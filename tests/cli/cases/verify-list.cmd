octavo-verify "$MODELS/weight-only.safetensors" --list | head -n 30
octavo-verify "$MODELS/fp8.safetensors" --list | grep -e ^model -e ^dialect -e ^scales -e ^memory
octavo-verify "$MODELS/folder" --list | grep -e ^file -e ^model -e ^dialect -e ^memory -e ^total
octavo-verify "$MODELS/folder/vae/diffusion_pytorch_model.safetensors" --list | head -n 4
