cp "$MODELS/fp8.safetensors" .
octavo-verify fp8.safetensors --source "$MODELS/single.safetensors" --junit pass.xml >/dev/null
cat pass.xml
patch-file set fp8.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight_scale 0
octavo-verify fp8.safetensors --junit fail.xml >/dev/null
echo "exit $?"
cat fail.xml
