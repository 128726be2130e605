ulimit -f 100
octavo-quantize --model "$MODELS/single.safetensors" --policy mlp --out out.safetensors --threads 1
status=$?
ls -A
exit $status
