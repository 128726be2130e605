octavo-quantize --model "$MODELS/folder" --policy mlp --dialect comfy-legacy --calibration "$MODELS/calibration.json" --out out.safetensors
octavo-verify out.safetensors --source "$MODELS/folder" --policy mlp --calibration "$MODELS/calibration.json" | tail -n 1
octavo-verify out.safetensors --list | grep -e scale_ -e scaled_fp8 | head -n 5
