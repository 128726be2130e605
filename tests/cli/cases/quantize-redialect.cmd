octavo-quantize --model "$MODELS/fp8.safetensors" --redialect comfy-legacy --out legacy.safetensors
octavo-verify legacy.safetensors --list | grep -e scaled_fp8 -e fc1.scale
octavo-quantize --model legacy.safetensors --redialect comfy --out back.safetensors --quiet
cmp back.safetensors "$MODELS/fp8.safetensors" && echo same bytes
octavo-quantize --model "$MODELS/weight-only.safetensors" --redialect comfy-legacy --out l.safetensors --quiet --no-sha256
octavo-quantize --model l.safetensors --redialect comfy --out w.safetensors --quiet
cmp w.safetensors "$MODELS/weight-only.safetensors" && echo same bytes
octavo-quantize --model "$MODELS/fp8.safetensors" --redialect cast --out no.safetensors
echo $?
octavo-quantize --model "$MODELS/single.safetensors" --redialect comfy --out no.safetensors
echo $?
octavo-quantize --model "$MODELS/single.safetensors" --policy adaln-weight-only --calibration "$MODELS/calibration.json" --out mixed.safetensors --quiet
octavo-quantize --model mixed.safetensors --redialect comfy-legacy --out no.safetensors
echo $?
test ! -e no.safetensors
