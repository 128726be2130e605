for run in a b; do
    octavo-calibrate --device cpu --model "$MODELS/folder" --prompts "$MODELS/prompts.txt" --out $run.json --steps 2 --size 64x64 --quiet
done
cmp a.json b.json && ls
grep -c amax a.json
