cat >policy.json <<'P'
{"octavo_policy": 1, "name": "typo", "description": "", "default": {"wieghts": "keep"}, "rules": []}
P
octavo-quantize --model "$MODELS/folder" --policy ./policy.json --out out.safetensors
