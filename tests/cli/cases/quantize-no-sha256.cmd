octavo-quantize --model "$MODELS/single.safetensors" --policy all --out out.safetensors --quiet
octavo-quantize --model "$MODELS/single.safetensors" --policy all --out out.safetensors --no-source-digest --json
grep -ac octavo.source_sha256 out.safetensors
octavo-quantize --model "$MODELS/single.safetensors" --policy all --out out.safetensors --no-sha256
grep -ac octavo.source_sha256 out.safetensors
ls
