octavo-regress --device cpu --reference "$MODELS/folder" --policies everything --prompts "$MODELS/prompts.txt" --out report
status=$?
ls
exit $status
