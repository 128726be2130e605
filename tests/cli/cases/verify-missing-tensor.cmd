patch-file drop "$MODELS/fp8.safetensors" out.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.bias
octavo-verify out.safetensors
