fabricate --out model --layout diffusers --depth 2
octavo-quantize --model model/vae/diffusion_pytorch_model.safetensors --policy all --plan
