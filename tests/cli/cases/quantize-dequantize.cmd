octavo-quantize --model "$MODELS/fp8.safetensors" --dequantize bf16 --out a.safetensors
octavo-verify a.safetensors --list | grep -e '^total' -e ^metadata
octavo-quantize --model a.safetensors --policy mlp-attn --out again.safetensors --quiet
octavo-quantize --model "$MODELS/fp8.safetensors" --dequantize f16 --out f16.safetensors --quiet
octavo-quantize --model f16.safetensors --policy mlp-attn --out again-f16.safetensors --quiet
for file in "$MODELS/fp8" again again-f16; do grep '\.weight$' $file.safetensors.xxh3 >$(basename $file).codes; done
cmp fp8.codes again.codes && cmp fp8.codes again-f16.codes && echo same codes
octavo-quantize --model "$MODELS/fp8.safetensors" --redialect comfy-legacy --out legacy.safetensors --quiet
octavo-quantize --model legacy.safetensors --dequantize bf16 --out b.safetensors --quiet --json | grep -o '"source_dialect":"[a-z-]*"'
for file in a b; do grep -v __metadata__ $file.safetensors.xxh3 >$file.values; done
cmp a.values b.values && echo same values
octavo-quantize --model "$MODELS/single.safetensors" --dequantize f16 --out c.safetensors
