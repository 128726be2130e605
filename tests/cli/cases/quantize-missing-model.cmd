octavo-quantize --model no-such-file --policy all --out out.safetensors
status=$?
ls -A
exit $status
