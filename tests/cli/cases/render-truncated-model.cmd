head -c 5000 "$MODELS/all.safetensors" >cut.safetensors
octavo-render --device cpu --model cut.safetensors --prompt x --out images
status=$?
ls
exit $status
