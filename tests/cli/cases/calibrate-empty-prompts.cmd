: >empty.txt
octavo-calibrate --device cpu --model "$MODELS/folder" --prompts empty.txt --out c.json
status=$?
ls
exit $status
