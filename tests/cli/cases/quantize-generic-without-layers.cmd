fabricate --out model --layout diffusers --depth 2
octavo-quantize --model model/text_encoder_2/model.safetensors --policy all --generic --plan
