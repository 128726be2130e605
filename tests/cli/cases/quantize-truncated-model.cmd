head -c 100000 "$MODELS/single.safetensors" >cut.safetensors
octavo-quantize --model cut.safetensors --policy all --out out.safetensors
status=$?
ls -A
exit $status
