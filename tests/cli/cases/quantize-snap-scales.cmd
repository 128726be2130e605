for to in bf16 pow2; do
    octavo-quantize --model "$MODELS/single.safetensors" --policy mlp-attn --calibration "$MODELS/calibration.json" --snap-scales $to --out $to.safetensors --quiet >hash
    octavo-verify $to.safetensors --source "$MODELS/single.safetensors" --policy mlp-attn --calibration "$MODELS/calibration.json" --quiet | tail -n 1
    grep -a -o '"octavo.snap_scales":"[a-z0-9]*"' $to.safetensors
done
octavo-quantize --model "$MODELS/single.safetensors" --policy mlp-attn --snap-scales f16 --out x.safetensors
