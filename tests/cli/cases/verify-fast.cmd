cp "$MODELS/fp8.safetensors" "$MODELS/fp8.safetensors.xxh3" .
octavo-verify fp8.safetensors --fast
patch-file flip-tensor fp8.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight 1000
octavo-verify fp8.safetensors --fast | grep -e FAIL -e verdict
cp "$MODELS/fp8.safetensors.sha256" .
octavo-verify fp8.safetensors | grep -e FAIL -e verdict
cp "$MODELS/fp8.safetensors" .
sed -i 's/pos_embed$/pos_embeD/' fp8.safetensors.xxh3
octavo-verify fp8.safetensors --fast | grep -e FAIL -e verdict
printf 'octavo-xxh3 2\n' >fp8.safetensors.xxh3
octavo-verify fp8.safetensors --fast
rm fp8.safetensors.xxh3
octavo-verify fp8.safetensors --fast
octavo-verify fp8.safetensors --fast --require-sha256
