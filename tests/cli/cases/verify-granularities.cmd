fc1=model.diffusion_model.joint_blocks.0.x_block.mlp.fc1
make() {  # make NAME SETTINGS
    printf '{"octavo_policy":1,"name":"%s","rules":[{"select":{"role":"mlp_fc1"},"set":{%s}}]}' "$1" "$2" >"$1.json"
    octavo-quantize --model "$MODELS/single.safetensors" --policy "./$1.json" --out "$1" --quiet >quantized
    octavo-verify "$1" --source "$MODELS/single.safetensors" --policy "./$1.json" | grep -e '0.x_block.mlp.fc1' -e WARN -e FAIL -e verdict
}
make mx '"weights":"e4m3","granularity":"mx"'
make e5m2 '"weights":"e5m2"'
make mse '"weights":"e4m3","scale":"mse"'
make percentile '"weights":"e4m3","scale":"percentile","percentile":99.9'
octavo-verify e5m2 --policy ./mx.json | grep "fc1' is" | head -n 1
patch-file ulp mse $fc1.weight_scale
octavo-verify mse --fast --source "$MODELS/single.safetensors" --policy ./mse.json | grep 'FAIL.*the source gives'
octavo-verify percentile --fast --source "$MODELS/single.safetensors" --policy ./mse.json | grep 'FAIL.*fc1' | head -n 2
patch-file byte mx $fc1.weight_scale 100 0xff
octavo-verify mx | grep -e 'FAIL.*positive' -e verdict
patch-file byte mx $fc1.weight_scale 100 0x70
octavo-verify mx --source "$MODELS/single.safetensors" --policy ./mx.json | grep -e 'FAIL.*index' -e verdict
