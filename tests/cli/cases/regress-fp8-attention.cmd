# The weights stay, attention is in FP8: of a policy, of a file, and as render draws it.
echo '{"octavo_policy": 1, "name": "keep", "rules": []}' >keep.json
printf 'a red circle\n' >prompts.txt
octavo-regress --device cpu --reference "$MODELS/folder" --policies ./keep.json,./keep.json+fp8-attention \
    --candidates "$MODELS/single.safetensors+fp8-attention" --prompts prompts.txt --out report --steps 2 --size 64x64 \
    --quiet --json >result.json || exit
octavo-render --device cpu --model "$MODELS/folder" --prompts prompts.txt --out render --steps 2 --size 64x64 --fp8-attention \
    --quiet >result
tr -d ' \n' <report/report.json | grep -o '"name":"[^"]*","pass":[a-z]*,"[^"]*"'
cd report/images && ls && cmp -s 0-reference/*.png 1-keep/0000-0.png && echo as the reference
cmp -s 0-reference/*.png 2-keep_fp8-attention/0000-0.png || echo another picture
cmp 2-keep_fp8-attention/0000-0.png 3-*/0000-0.png && echo the same of a file
octavo-regress --compare 2-keep_fp8-attention/0000-0.png ../../render/0000-0.png --json | tr -d ' \n'
grep -ao '"fp8_attention":true' ../../render/0000-0.png
