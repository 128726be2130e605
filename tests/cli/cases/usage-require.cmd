octavo-calibrate --model "$MODELS/folder" --prompts "$MODELS/prompts.txt" --out c.json --require fp8,gpus
