octavo-quantize --model "$MODELS/folder" --policy mlp --out out.safetensors --quiet
head -n 4 out.safetensors.xxh3
wc -l <out.safetensors.xxh3
for threads in 1 7; do
    octavo-quantize --model "$MODELS/folder" --policy mlp --out again.safetensors --threads $threads --quiet
    cmp out.safetensors.xxh3 again.safetensors.xxh3
done
