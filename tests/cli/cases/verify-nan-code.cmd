cp "$MODELS/fp8.safetensors" fp8.safetensors
patch-file byte fp8.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight 77 0x7f
octavo-verify fp8.safetensors
