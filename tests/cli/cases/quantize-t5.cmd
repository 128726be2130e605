octavo-quantize --model "$MODELS/folder/text_encoder_3/model.safetensors" --policy t5-default --out t5.safetensors --quiet >digest
octavo-verify t5.safetensors --source "$MODELS/folder/text_encoder_3/model.safetensors" --policy t5-default --quiet | tail -n 1
octavo-quantize --model "$MODELS/all.safetensors" --policy mlp-attn-t5 --out all.safetensors --quiet >digest
octavo-verify all.safetensors --source "$MODELS/all.safetensors" --policy mlp-attn-t5 --quiet | tail -n 1
octavo-verify all.safetensors --list | grep -c 't5xxl.*weight_scale'
