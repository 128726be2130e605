convert() {  # convert NAME POLICY-REST...: what config.json says
    name=$1
    shift
    echo "{\"octavo_policy\":1,\"name\":\"p\",$1}" >p.json
    shift
    echo "== $name"
    octavo-quantize --model "$MODELS/folder" --policy ./p.json --dialect diffusers --out "$name" --quiet "$@" >/dev/null
    grep -e quant_algo -e quant_method -e quantized_layers -e strategy -e group_size "$name/config.json" | sort | uniq -c
}
static='"default":{"weights":"e4m3"},"rules":[{"select":{"role":"mod"},"set":{"weights":"keep"}}]'
convert static "$static" --calibration "$MODELS/calibration.json"
convert weight-only "$static"
convert channel '"default":{"weights":"e4m3","granularity":"channel"}'
convert mx '"default":{"weights":"e4m3","granularity":"mx"}'
convert mixed '"default":{"weights":"e4m3"},"rules":[{"select":{"role":"mod"},"set":{"granularity":"mx","inputs":"none"}}]' --calibration "$MODELS/calibration.json" --require-calibration
convert static-channel '"default":{"weights":"e4m3","granularity":"channel"}' --calibration "$MODELS/calibration.json"
convert nothing '"default":{"weights":"keep"}'
echo '{"octavo_policy":1,"name":"p","default":{"weights":"e4m3"}}' >p.json
octavo-quantize --model "$MODELS/folder" --policy ./p.json --dialect diffusers --out said >/dev/null
octavo-verify mixed --source "$MODELS/folder" | tail -n 1
