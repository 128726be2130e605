: >empty.txt
octavo-regress --device cpu --reference "$MODELS/folder" --policies all --prompts empty.txt --out report
status=$?
ls
exit $status
