octavo-quantize --model "$MODELS/folder" --policy mlp-attn --calibration "$MODELS/calibration.json" --dialect diffusers --out whole --quiet >/dev/null
octavo-quantize --model "$MODELS/folder" --policy mlp-attn --calibration "$MODELS/calibration.json" --dialect diffusers --shard-size 300K --out shards
ls -A shards
(cd shards && sha256sum -c --strict *.sha256)
grep -A 2 -e total_size -e weight_map shards/*.index.json
cmp whole/config.json shards/config.json && echo same config
grep -h -v -e __metadata__ -e octavo-xxh3 whole/*.xxh3 | sort >whole.tensors
grep -h -v -e __metadata__ -e octavo-xxh3 shards/*.xxh3 | sort >shards.tensors
cmp whole.tensors shards.tensors && echo same tensors
octavo-verify shards --source "$MODELS/folder" --policy mlp-attn --calibration "$MODELS/calibration.json" --require-sha256 | grep -e verdict -e FAIL -e compared
octavo-verify shards --fast --json | grep -o '"xxh3[^,]*,'
octavo-verify whole/diffusion_pytorch_model.safetensors --source shards | tail -n 1
echo from shards to shards of another size, with other threads:
octavo-quantize --model shards --redialect diffusers --shard-size 600kb --out fewer --quiet --threads 1 | cut -d ' ' -f 3
octavo-quantize --model fewer --redialect diffusers --shard-size 300k --out again --quiet --threads 5 >/dev/null
diff -r shards again && echo same bytes
echo larger than the model:
octavo-quantize --model fewer --redialect diffusers --shard-size 1GiB --out one --quiet >/dev/null
ls one
cmp one/diffusion_pytorch_model.safetensors whole/diffusion_pytorch_model.safetensors && echo same bytes
octavo-quantize --model fewer --redialect comfy --out comfy.safetensors --quiet >/dev/null
octavo-quantize --model whole --redialect comfy --out comfy2.safetensors --quiet >/dev/null
cmp comfy.safetensors comfy2.safetensors && echo same bytes
echo a shard for another, and a bit:
octavo-quantize --model fewer --redialect diffusers --shard-size 600K --no-sha256 --out fewer --quiet
octavo-quantize --model whole --redialect diffusers --shard-size 600K --no-sha256 --out fewer --quiet
ls fewer | grep -c sha256
patch-file flip-tensor shards/diffusion_pytorch_model-00002-of-*.safetensors "$(sed -n '3s/.* //p' shards/diffusion_pytorch_model-00002-of-*.xxh3)" 3
octavo-verify shards | grep -e FAIL -e verdict
octavo-quantize --model whole --redialect diffusers --shard-size 300K --out shards --quiet --json | grep -o '"files":.\{200\}'
octavo-verify shards | tail -n 1
