octavo-regress --device cpu --reference "$MODELS/folder" --candidates "$MODELS/fp8.safetensors" "$MODELS/weight-only.safetensors" \
    --prompts "$MODELS/prompts.txt" --limit 1 --out report --steps 2 --size 64x64 --quiet >result
echo "exit $?"
ls report
