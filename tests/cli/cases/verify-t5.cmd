octavo-quantize --model "$MODELS/all.safetensors" --policy mlp-attn-t5 --out out.safetensors --quiet >quantized
octavo-verify out.safetensors --source "$MODELS/all.safetensors" --policy mlp-attn-t5 | grep -e ^dialect -e wi_0 -e verdict
patch-file byte out.safetensors text_encoders.t5xxl.transformer.encoder.block.0.layer.1.DenseReluDense.wi_0.weight 5 0x7f
octavo-verify out.safetensors | grep -e NaN -e verdict
octavo-quantize --model "$MODELS/folder/text_encoder_3/model.safetensors" --policy t5-default --out t5.safetensors --quiet >quantized
octavo-verify t5.safetensors --source "$MODELS/folder/text_encoder_3/model.safetensors" --policy t5-default | grep -e ^dialect -e verdict
octavo-verify "$MODELS/folder/vae/diffusion_pytorch_model.safetensors" | grep -v ^sha256
