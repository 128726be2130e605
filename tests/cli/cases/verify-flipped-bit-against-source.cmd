cp "$MODELS/fp8.safetensors" fp8.safetensors
patch-file flip-tensor fp8.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight 1000
octavo-verify fp8.safetensors --source "$MODELS/single.safetensors" | tail -n 2
patch-file flip-tensor fp8.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight 1000
patch-file flip-tensor fp8.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.bias 10
octavo-verify fp8.safetensors --source "$MODELS/single.safetensors" | tail -n 2
