for size in 5 0G 2X -2G 1.5G 2GBi 99999999999G ''; do
    octavo-quantize --model "$MODELS/folder" --policy all --dialect diffusers --shard-size="$size" --out a 2>&1 | head -n 1
done
octavo-quantize --model "$MODELS/folder" --policy all --shard-size 2G --out a.safetensors 2>&1 | head -n 1
octavo-quantize --model a --redialect cast --shard-size 2G --out a.safetensors 2>&1 | head -n 1
octavo-quantize --model a --dequantize f16 --shard-size 2G --out a.safetensors 2>&1 | head -n 1
cp -r "$MODELS/folder" pipeline
octavo-quantize --model "$MODELS/folder" --policy all --dialect diffusers --shard-size 1G --out pipeline 2>&1 | head -n 1
octavo-quantize --model "$MODELS/folder" --policy all --dialect diffusers --out file --quiet >/dev/null
octavo-quantize --model "$MODELS/folder" --policy all --dialect diffusers --shard-size 600K --out shards --quiet >/dev/null
ls -AR >before
octavo-quantize --model shards --redialect diffusers --shard-size 300K --out shards 2>&1 | head -n 1
octavo-quantize --model file --redialect diffusers --shard-size 300K --out file 2>&1 | head -n 1
octavo-quantize --model shards --redialect diffusers --shard-size 300K --out file 2>&1 | head -n 1
octavo-quantize --model file --redialect diffusers --out shards 2>&1 | head -n 1
ls -AR | diff - before && echo nothing else is there
mkdir full
(ulimit -f 400; octavo-quantize --model file --redialect diffusers --shard-size 600K --out full --threads 1)
echo $?
ls -A full
