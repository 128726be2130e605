octavo-calibrate --device cpu --model "$MODELS/folder" --prompts "$MODELS/prompts.txt" --out c.json --size 64x64 --require fp8
