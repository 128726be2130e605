octavo-quantize --model "$MODELS/folder" --policy everything --out out.safetensors
status=$?
ls -A
exit $status
