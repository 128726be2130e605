octavo-quantize --model "$MODELS/fp8.safetensors" --redialect comfy-legacy --out legacy.safetensors --quiet >quantized
octavo-verify legacy.safetensors --source "$MODELS/fp8.safetensors" | tail -n 2
patch-file ulp legacy.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.scale_weight
patch-file ulp legacy.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc2.scale_input
patch-file flip-tensor legacy.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc2.weight 9
octavo-verify legacy.safetensors --source "$MODELS/fp8.safetensors" | grep -e FAIL -e verdict
octavo-quantize --model "$MODELS/fp8.safetensors" --dequantize f16 --out f16.safetensors --quiet >quantized
octavo-verify f16.safetensors --source "$MODELS/fp8.safetensors" | tail -n 2
patch-file flip-tensor f16.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc2.weight 9
octavo-verify f16.safetensors --source "$MODELS/fp8.safetensors" | grep -e FAIL -e verdict
octavo-quantize --model "$MODELS/fp8.safetensors" --policy all --requantize --out again.safetensors --quiet >quantized
octavo-verify again.safetensors --source "$MODELS/fp8.safetensors" --policy all | tail -n 2
