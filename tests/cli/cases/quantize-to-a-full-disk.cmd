ulimit -f 100
octavo-quantize --model "$MODELS/single.safetensors" --policy mlp --out out.safetensors
status=$?
ls -A
exit $status
