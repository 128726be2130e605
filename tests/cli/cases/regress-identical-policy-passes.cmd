cat >keep.json <<'P'
{"octavo_policy": 1, "name": "keep", "description": "everything stays", "rules": []}
P
octavo-regress --device cpu --reference "$MODELS/folder" --policies ./keep.json --prompts "$MODELS/prompts.txt" --limit 1 \
    --out report --steps 2 --size 64x64 --min-psnr-db 90 --quiet >result
echo "exit $?"
find report -maxdepth 1 -type f | sort
