: >empty.txt
octavo-calibrate --model "$MODELS/folder" --prompts empty.txt --out c.json
status=$?
ls
exit $status
