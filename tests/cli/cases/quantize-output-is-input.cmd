cp "$MODELS/single.safetensors" model.safetensors
octavo-quantize --model model.safetensors --policy all --out model.safetensors
status=$?
cmp model.safetensors "$MODELS/single.safetensors"
exit $status
