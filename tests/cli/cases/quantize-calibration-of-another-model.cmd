fabricate --out other --layout diffusers --depth 2 --dual-blocks 1 --seed 1
octavo-quantize --model other --policy all --calibration "$MODELS/calibration.json" --out out.safetensors
status=$?
ls -A
exit $status
