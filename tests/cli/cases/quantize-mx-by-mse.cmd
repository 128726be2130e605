echo '{"octavo_policy": 1, "name": "t", "default": {"weights": "e4m3", "granularity": "mx", "scale": "mse"}}' >t.json
octavo-quantize --model "$MODELS/folder" --policy t.json --plan
