octavo-calibrate --device cpu --model "$MODELS/folder" --prompts no-such.txt --out c.json
