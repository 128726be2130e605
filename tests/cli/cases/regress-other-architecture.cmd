octavo-regress --device cpu --reference "$MODELS/folder/text_encoder_3/model.safetensors" --policies mlp --prompts "$MODELS/prompts.txt" --out report
status=$?
ls
exit $status
