octavo-quantize --model "$MODELS/fp8.safetensors" --requantize --policy mlp-attn --out a.safetensors
octavo-quantize --model "$MODELS/single.safetensors" --policy mlp-attn --out b.safetensors --quiet
for file in a b; do octavo-verify $file.safetensors --list | grep F8_E4M3; done | sort | uniq -c | awk '{print $1}' | sort | uniq -c
octavo-verify a.safetensors --source "$MODELS/single.safetensors" | tail -n 1
