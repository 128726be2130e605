for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "prompt $i"; done >prompts.txt
set -- --device cpu --model "$MODELS/folder" --prompts prompts.txt --steps 2 --size 64x64 --channels
octavo-calibrate "$@" --out whole.json --quiet
until [ -e c.json.partial ]; do
    octavo-calibrate "$@" --out c.json --quiet &
    while [ ! -e c.json.partial ] && kill -0 $! 2>/dev/null; do :; done
    kill -9 $! 2>/dev/null || true
    wait $! 2>/dev/null || true
done
[ -e c.json ] || echo not complete
octavo-calibrate "$@" --out c.json 2>&1 | grep -o "going on from 'c.json.partial'"
cmp whole.json c.json && cmp whole.json.channels.safetensors c.json.channels.safetensors && ls
echo damaged >c.json.partial
octavo-calibrate "$@" --out c.json 2>&1 | grep partial
cmp whole.json c.json && ls | grep -c partial || true
