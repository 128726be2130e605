policy() { echo "{\"octavo_policy\":1,\"name\":\"p\",\"default\":{\"weights\":\"e4m3\",\"granularity\":\"$1\"}}" >"$1.json"; }
same() { cmp "$1" "$2" && echo "same bytes: $1 $2"; }
policy channel
policy mx
quantize() { octavo-quantize --model "$MODELS/single.safetensors" --calibration "$MODELS/calibration.json" --quiet "$@" >/dev/null; }
respell() { octavo-quantize --model "$1" --redialect "$2" --out "$3" --quiet --threads "${4:-2}" >/dev/null; }
weights=diffusion_pytorch_model.safetensors

# MX: ComfyUI's tiles to plain scales of separate q, k and v, and back.
quantize --policy ./mx.json --out mx.safetensors
quantize --policy ./mx.json --dialect diffusers --out mx
respell mx.safetensors diffusers folder
same mx/$weights folder/$weights
same mx/config.json folder/config.json
respell folder comfy back.safetensors 1
octavo-quantize --model mx --redialect comfy --out there.safetensors --quiet >/dev/null
same there.safetensors back.safetensors
respell mx.safetensors comfy itself.safetensors
same mx.safetensors itself.safetensors
octavo-verify folder/$weights --source "$MODELS/single.safetensors" --policy ./mx.json --calibration "$MODELS/calibration.json" | tail -n 1
octavo-verify folder --list | grep 'blocks.0.attn.to_q.weight_scale'

# Per channel there is one dialect: other shards of it, and back.
quantize --policy ./channel.json --dialect diffusers --out channel
octavo-quantize --model channel --redialect diffusers --shard-size 600K --out shards --quiet --threads 1 >/dev/null
ls shards | grep -c 'safetensors$'
respell shards diffusers whole
same channel/$weights whole/$weights
same channel/config.json whole/config.json

for to in comfy comfy-legacy cast; do octavo-quantize --model channel --redialect $to --out no.safetensors; done
for to in comfy-legacy cast; do octavo-quantize --model mx.safetensors --redialect $to --out no.safetensors; done
patch-file byte mx.safetensors model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight_scale 100 0xff
octavo-quantize --model mx.safetensors --redialect diffusers --out broken
ls broken; test ! -e no.safetensors
