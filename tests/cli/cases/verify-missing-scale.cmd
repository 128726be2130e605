patch-file drop "$MODELS/fp8.safetensors" out.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight_scale
octavo-verify out.safetensors
octavo-verify out.safetensors --source "$MODELS/single.safetensors" --policy mlp-attn --calibration "$MODELS/calibration.json" | grep FAIL
