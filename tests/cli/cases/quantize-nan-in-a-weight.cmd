cp "$MODELS/single.safetensors" model.safetensors
patch-file byte model.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight 2001 0x7e
octavo-quantize --model model.safetensors --policy mlp --out out.safetensors
status=$?
ls -A
exit $status
