octavo-calibrate --model "$MODELS/folder" --prompts no-such.txt --out c.json
