sed 's/encoder\.block/unheard.block/g; s/encoder\.final/unheard.final/' "$MODELS/folder/text_encoder_3/model.safetensors" >unknown.safetensors
octavo-quantize --model unknown.safetensors --policy all --generic --plan | tail -n 8
octavo-quantize --model unknown.safetensors --policy all --generic --out fp8.safetensors --quiet >digest
octavo-verify fp8.safetensors --source unknown.safetensors --policy all --quiet | tail -n 1
octavo-quantize --model unknown.safetensors --policy all --out fp8.safetensors
