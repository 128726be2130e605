run="octavo-regress --device cpu --reference $MODELS/folder --policies all --prompts $MODELS/prompts.txt --out report --steps 2 --size 64x64"
$run --sheet sheet.png --quiet >result 2>log
head -c 4 sheet.png | tail -c 3 && echo
for name in reference all; do
    for id in 0000 0001; do
        echo "{\"id\": \"$id\", \"metric\": \"liked\", \"value\": $([ $name = all ] && echo 0.25 || echo 1)}"
    done >$name.jsonl
done
$run --reuse --scores reference=reference.jsonl all=all.jsonl | sed -n '3,$p'
octavo-regress --device cpu --reference $MODELS/folder --policies all --prompts $MODELS/prompts.txt --out report --steps 2 --size 64x64 \
    --reuse --scores reference=reference.jsonl all=all.jsonl --max-score-drop liked=0.5 --json --quiet 2>log | grep -o '"scores":.*]'
grep -c '<failure' report/junit.xml
