cat >policy.json <<'P'
{"octavo_policy": 1, "name": "none", "description": "",
 "rules": [{"select": {"name": "joint_blocks.7.*"}, "set": {"weights": "e4m3"}}]}
P
octavo-quantize --model "$MODELS/folder" --policy ./policy.json --out out.safetensors
status=$?
ls -A
exit $status
