policy() { echo "{\"octavo_policy\": 1, \"name\": \"$1\", \"default\": {\"weights\": \"$2\", $3}}" >"$1.json"; }
policy blocks e4m3 '"granularity": "mx"'
policy range e5m2 '"scale": "mse"'
for name in blocks range; do
    octavo-quantize --model "$MODELS/single.safetensors" --policy ./$name.json --calibration "$MODELS/calibration.json" \
        --out $name.safetensors --quiet >$name.hash || exit
done
octavo-regress --device cpu --reference "$MODELS/folder" --calibration "$MODELS/calibration.json" --policies ./blocks.json,./range.json \
    --prompts "$MODELS/prompts.txt" --limit 1 --out policies --steps 2 --size 64x64 --quiet >result
octavo-regress --device cpu --reference "$MODELS/folder" --candidates blocks.safetensors range.safetensors \
    --prompts "$MODELS/prompts.txt" --limit 1 --out files --steps 2 --size 64x64 --quiet >result
cmp policies/images/1-blocks/0000-0.png files/images/1-blocks.safetensors/0000-0.png && echo the same in blocks
cmp policies/images/2-range/0000-0.png files/images/2-range.safetensors/0000-0.png && echo the same in E5M2
cmp -s files/images/1-blocks.safetensors/0000-0.png files/images/2-range.safetensors/0000-0.png || echo another picture
