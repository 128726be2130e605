octavo-regress --reference "$MODELS/folder" --policies all --prompts "$MODELS/prompts.txt" --out report --vram 8
