octavo-quantize --model "$MODELS/single.safetensors" --policy mlp-attn --calibration "$MODELS/calibration.json" --dialect diffusers --out a
ls a
octavo-quantize --model "$MODELS/folder" --policy mlp-attn --calibration "$MODELS/calibration.json" --dialect diffusers --out b --quiet >/dev/null
for folder in a b; do grep -v __metadata__ $folder/*.xxh3 >$folder.tensors; done
cmp a.tensors b.tensors && echo same tensors from either layout
octavo-verify a/diffusion_pytorch_model.safetensors --source "$MODELS/single.safetensors" --policy mlp-attn --calibration "$MODELS/calibration.json" | tail -n 1
octavo-verify a/diffusion_pytorch_model.safetensors --list | grep 'blocks.0.attn.to_[qk]'
grep -e quant_ -e weight_only -e static -e '"ignore"' a/config.json
octavo-quantize --model a --redialect comfy --out c.safetensors --quiet >/dev/null
octavo-quantize --model c.safetensors --redialect diffusers --out d --quiet >/dev/null
cmp a/diffusion_pytorch_model.safetensors d/diffusion_pytorch_model.safetensors && cmp a/config.json d/config.json && echo same bytes
octavo-quantize --model "$MODELS/weight-only.safetensors" --redialect diffusers --out e --quiet >/dev/null
octavo-quantize --model e --redialect comfy --out f.safetensors --quiet >/dev/null
cmp f.safetensors "$MODELS/weight-only.safetensors" && echo same bytes
octavo-quantize --model a --dequantize bf16 --out g.safetensors --quiet >/dev/null
octavo-quantize --model c.safetensors --dequantize bf16 --out h.safetensors --quiet >/dev/null
for file in g h; do grep -v __metadata__ $file.safetensors.xxh3 >$file.tensors; done
cmp g.tensors h.tensors && echo same values
for granularity in channel mx; do
    echo "{\"octavo_policy\":1,\"name\":\"p\",\"default\":{\"weights\":\"e4m3\",\"granularity\":\"$granularity\"}}" >p.json
    octavo-quantize --model "$MODELS/folder" --policy ./p.json --dialect diffusers --out $granularity --quiet >/dev/null
    octavo-verify $granularity/diffusion_pytorch_model.safetensors --source "$MODELS/folder" --policy ./p.json | tail -n 1
    octavo-verify $granularity/diffusion_pytorch_model.safetensors --list | grep 'blocks.0.attn.to_q.weight_scale'
    octavo-quantize --model $granularity --dequantize bf16 --out d.safetensors --quiet >/dev/null
    octavo-quantize --model d.safetensors --policy ./p.json --dialect diffusers --out again --quiet >/dev/null
    for folder in $granularity again; do grep '\.weight$' $folder/*.xxh3 >$folder.codes; done
    cmp $granularity.codes again.codes && echo same codes
done
