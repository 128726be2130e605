octavo-regress --device cpu --reference "$MODELS/folder" --policies all --prompts "$MODELS/prompts.txt" --out report --size 64x64 --require gpu,fp8
