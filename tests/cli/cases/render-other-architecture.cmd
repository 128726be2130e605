octavo-render --device cpu --model "$MODELS/folder/text_encoder_3/model.safetensors" --prompt 'a red circle' --out pictures
status=$?
ls
exit $status
