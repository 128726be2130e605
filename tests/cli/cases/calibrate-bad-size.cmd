octavo-calibrate --device cpu --model "$MODELS/folder" --prompts "$MODELS/prompts.txt" --out c.json --size 100x64
status=$?
ls
exit $status
