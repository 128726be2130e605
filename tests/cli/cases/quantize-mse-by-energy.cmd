octavo-calibrate --model "$MODELS/folder" --prompts "$MODELS/prompts.txt" --steps 2 --size 64x64 --channels --out energy.json --quiet
octavo-calibrate --model "$MODELS/folder" --prompts "$MODELS/prompts.txt" --steps 2 --size 64x64 --out plain.json --quiet
echo '{"octavo_policy":1,"name":"mse","default":{"weights":"e4m3","scale":"mse"},"rules":[{"select":{"role":"mod"},"set":{"weights":"keep"}}]}' >mse.json
for c in energy plain; do
    octavo-quantize --model "$MODELS/folder" --policy ./mse.json --calibration $c.json --out $c.safetensors --quiet >/dev/null
    octavo-verify $c.safetensors --source "$MODELS/folder" --policy ./mse.json --calibration $c.json | tail -n 1
done
octavo-quantize --model "$MODELS/folder" --policy ./mse.json --calibration energy.json --out again.safetensors --quiet --threads 1 --cpu c >/dev/null
cmp energy.safetensors again.safetensors && echo same bytes
for c in energy plain; do grep 'weight_scale$' $c.safetensors.xxh3 >$c.scales; done
cmp -s energy.scales plain.scales || echo other scales
octavo-verify energy.safetensors --source "$MODELS/folder" --policy ./mse.json --calibration plain.json | grep -q 'FAIL.*weight scale is' && echo not by the other calibration
octavo-verify energy.safetensors --source "$MODELS/folder" --policy ./mse.json | tail -n 1
plan() { octavo-quantize --model "$MODELS/folder" --policy ./mse.json --plan "$@"; }
plan --calibration energy.json | grep -e '^layer' -e '^outputs'
plan --calibration plain.json | grep -c -e outputs
plan --calibration energy.json --json | grep -c output_sqnr_db
