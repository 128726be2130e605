: >empty.txt
octavo-regress --reference "$MODELS/folder" --policies all --prompts empty.txt --out report
status=$?
ls
exit $status
