calibrate() { octavo-calibrate --device cpu --model "$MODELS/folder" --prompts "$MODELS/prompts.txt" --steps 2 --size 64x64 "$@"; }
calibrate --channels --out a.json 2>&1 | grep '^calibrate: and'
calibrate --channels --out b.json --threads 1 --json --quiet | grep -o '"channels_sha256":"'
calibrate --out plain.json --quiet
cmp a.json b.json && cmp a.json.channels.safetensors b.json.channels.safetensors && echo same bytes
grep -v channels_sha256 a.json >ranges.json
cmp ranges.json plain.json && echo same ranges
ls
octavo-verify a.json.channels.safetensors --list | grep -e 'octavo.ch' -e 'blocks.0.x_block.mlp.fc2'
octavo-quantize --model "$MODELS/folder" --policy mlp --calibration a.json --out a.safetensors --quiet >/dev/null
rm b.json.channels.safetensors
octavo-quantize --model "$MODELS/folder" --policy mlp --calibration b.json --out b.safetensors
patch-file byte a.json.channels.safetensors joint_blocks.0.x_block.mlp.fc2.input_squares 0 0xff
octavo-quantize --model "$MODELS/folder" --policy mlp --calibration a.json --out b.safetensors 2>&1 | cut -d ' ' -f 1-9
