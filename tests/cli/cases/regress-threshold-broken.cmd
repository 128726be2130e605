octavo-regress --device cpu --reference "$MODELS/folder" --policies all --calibration "$MODELS/calibration.json" \
    --prompts "$MODELS/prompts.txt" --limit 1 --out report --steps 2 --size 64x64 --min-psnr-db 90 --quiet >result
echo "exit $?"
grep -c '<failure' report/junit.xml
