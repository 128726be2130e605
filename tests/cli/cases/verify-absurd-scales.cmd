for value in 0 -1 nan inf; do
    cp "$MODELS/fp8.safetensors" fp8.safetensors
    patch-file set fp8.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight_scale $value
    octavo-verify fp8.safetensors | grep FAIL
done
