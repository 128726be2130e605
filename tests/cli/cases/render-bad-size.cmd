octavo-render --device cpu --model "$MODELS/folder" --prompt x --out images --size 100x64
status=$?
ls
exit $status
