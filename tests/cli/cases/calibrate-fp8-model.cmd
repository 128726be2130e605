octavo-calibrate --device cpu --model "$MODELS/fp8.safetensors" --prompts "$MODELS/prompts.txt" --out c.json --tokenizers "$MODELS/all.safetensors.tokenizers"
