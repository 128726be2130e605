policy() { echo "{\"octavo_policy\": 1, \"name\": \"$1\", \"default\": {\"weights\": \"$2\", $3}}" >"$1.json"; }
policy channel e4m3 '"granularity": "channel", "scale": "mse"'
policy blocks e4m3 '"granularity": "mx"'
policy range e5m2 '"scale": "percentile", "percentile": 99.99'
octavo-regress --device cpu --reference "$MODELS/folder" --policies channel.json,blocks.json,range.json \
    --prompts "$MODELS/prompts.txt" --limit 1 --out report --steps 2 --size 64x64 --quiet >result
echo "exit $?"
grep -o '"name": *"[a-z]*"' report/report.json | sort -u
