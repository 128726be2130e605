octavo-verify "$MODELS/fp8.safetensors" --list --json | sed 's/"files":.*//'
octavo-verify "$MODELS/fp8.safetensors" --list --json | grep -c '"name":"model.diffusion_model.pos_embed","dtype":"F16","shape":\[1,'
