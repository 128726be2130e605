patch-file add "$MODELS/fp8.safetensors" out.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc3.weight
octavo-verify out.safetensors
patch-file add "$MODELS/fp8.safetensors" out.safetensors stray
octavo-verify out.safetensors --source "$MODELS/single.safetensors" --policy mlp-attn --calibration "$MODELS/calibration.json" | grep FAIL
