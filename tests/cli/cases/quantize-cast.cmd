cp "$MODELS/single.safetensors" model.safetensors
patch-file byte model.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight 2001 0x7b
octavo-quantize --model model.safetensors --policy mlp --dialect cast --out out.safetensors
octavo-verify out.safetensors --source model.safetensors --policy mlp | tail -n 1
octavo-verify out.safetensors --list | grep -c '^F8_E4M3.*mlp'
octavo-verify out.safetensors --list | grep -e scale -e comfy
octavo-quantize --model "$MODELS/single.safetensors" --policy mlp --dialect cast --calibration "$MODELS/calibration.json" --plan | grep 'fc1.*why\|fc1'
