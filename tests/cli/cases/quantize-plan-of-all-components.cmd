octavo-quantize --model "$MODELS/all.safetensors" --policy mlp-attn-t5 --plan
