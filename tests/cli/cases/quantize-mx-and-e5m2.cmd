for kind in '"weights":"e4m3","granularity":"mx"' '"weights":"e5m2"' '"weights":"e4m3","granularity":"channel"'; do
    echo "{\"octavo_policy\":1,\"name\":\"p\",\"default\":{$kind}}" >p.json
    echo "== $kind"
    octavo-quantize --model "$MODELS/single.safetensors" --policy ./p.json --dialect comfy-legacy --out no.safetensors
    octavo-quantize --model "$MODELS/single.safetensors" --policy ./p.json --out a.safetensors --quiet >/dev/null || continue
    octavo-verify a.safetensors --source "$MODELS/single.safetensors" --policy ./p.json | tail -n 1
    octavo-verify a.safetensors --list | grep 'joint_blocks.0.x_block.mlp.fc1.weight'
    octavo-quantize --model a.safetensors --dequantize bf16 --out d.safetensors --quiet >/dev/null
    octavo-quantize --model d.safetensors --policy ./p.json --out b.safetensors --quiet >/dev/null
    for file in a b; do grep '\.weight$' $file.safetensors.xxh3 >$file.codes; done
    cmp a.codes b.codes && echo same codes
done
echo '{"octavo_policy":1,"name":"p","default":{"weights":"e5m2"}}' >p.json
octavo-quantize --model "$MODELS/single.safetensors" --policy ./p.json --dialect cast --out cast.safetensors --quiet >/dev/null
octavo-quantize --model cast.safetensors --redialect comfy --out comfy.safetensors --quiet >/dev/null
octavo-quantize --model comfy.safetensors --redialect cast --out back.safetensors --quiet >/dev/null
cmp cast.safetensors back.safetensors && echo same bytes
octavo-quantize --model cast.safetensors --redialect comfy-legacy --out no.safetensors
