octavo-quantize --model "$MODELS/folder" --policy attention-kept --plan --json
ls
