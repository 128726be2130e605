cp "$MODELS/fp8.safetensors" fp8.safetensors
patch-file ulp fp8.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight_scale
octavo-verify fp8.safetensors --source "$MODELS/single.safetensors" | grep -e FAIL -e verdict
octavo-verify "$MODELS/fp8.safetensors" --source "$MODELS/single.safetensors" | grep -e FAIL -e verdict
