octavo-quantize --model "$MODELS/folder" --policy all --out a.safetensors --quiet >/dev/null
octavo-quantize --model "$MODELS/single.safetensors" --policy all --out b.safetensors --quiet >/dev/null
for file in a b; do
    octavo-verify $file.safetensors --list | grep -v ^metadata | grep -o 'joint_blocks.*' | sort >$file.list
done
cmp a.list b.list && wc -l <a.list
octavo-verify a.safetensors --source "$MODELS/folder" --policy all | tail -n 1
octavo-verify b.safetensors --source "$MODELS/single.safetensors" --policy all | tail -n 1
