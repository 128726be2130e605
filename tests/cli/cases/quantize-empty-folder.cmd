mkdir empty
octavo-quantize --model empty --policy all --out out.safetensors
status=$?
ls -A
exit $status
