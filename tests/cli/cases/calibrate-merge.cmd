calibrate() { octavo-calibrate --device cpu --model "$MODELS/folder" --steps 2 --size 64x64 --channels --quiet "$@"; }
printf 'a fox\na cat\n' >ab.txt
printf 'a house\n' >c.txt
cat ab.txt c.txt >abc.txt
calibrate --prompts abc.txt --seed 5 --out whole.json
calibrate --prompts ab.txt --seed 5 --out ab.json
calibrate --prompts c.txt --seed 7 --out c.json
octavo-calibrate --merge ab.json c.json --out one.json
octavo-calibrate --merge c.json ab.json --out two.json --quiet --json | grep -o '"prompts".*'
cmp one.json two.json && cmp one.json.channels.safetensors two.json.channels.safetensors && echo same bytes
grep -n '"layers"' whole.json | cut -d : -f 1 | xargs -I N tail -n +N whole.json >whole.layers
grep -n '"layers"' one.json | cut -d : -f 1 | xargs -I N tail -n +N one.json >one.layers
cmp whole.layers one.layers && cmp whole.json.channels.safetensors one.json.channels.safetensors && echo as from one run
octavo-quantize --model "$MODELS/folder" --policy mlp --calibration one.json --out merged.safetensors --quiet >/dev/null
octavo-verify merged.safetensors --source "$MODELS/folder" --policy mlp --calibration one.json | tail -n 1
octavo-calibrate --merge one.json ab.json --out three.json 2>&1 | sed 's/prompts [0-9a-f]*/prompts X/'
octavo-calibrate --merge ab.json c.json --out ab.json || true
octavo-calibrate --merge ab.json --out three.json || true
for other in '--model m' '--prompts ab.txt' '--limit 2' --channels '--size 64x64'; do
    octavo-calibrate --merge ab.json c.json --out three.json $other || true
done
calibrate --prompts c.txt --seed 7 --cfg 1 --out plain.json
octavo-calibrate --merge ab.json plain.json --out three.json || true
[ -e three.json ] || echo nothing is written
