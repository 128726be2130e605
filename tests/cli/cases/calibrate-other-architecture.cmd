octavo-calibrate --device cpu --model "$MODELS/folder/text_encoder_3/model.safetensors" --prompts "$MODELS/prompts.txt" --out c.json
status=$?
ls
exit $status
