octavo-quantize --model "$MODELS/single.safetensors" --policy mlp-attn --calibration "$MODELS/calibration.json" --snap-scales pow2 --out out.safetensors --quiet >quantized
octavo-verify out.safetensors --source "$MODELS/single.safetensors" --policy mlp-attn --calibration "$MODELS/calibration.json" | tail -n 2
patch-file set out.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.input_scale 0.02
octavo-verify out.safetensors --calibration "$MODELS/calibration.json" | grep -e "FAIL.*scale" -e verdict
