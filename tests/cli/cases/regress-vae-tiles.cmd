# Pictures decoded in another way are not used again.
cp -r "$MODELS/folder" model
sed 's/"sample_size": 1024/"sample_size": 32/' "$MODELS/folder/vae/config.json" >model/vae/config.json
printf 'a red circle\n' >prompts.txt
compare() { octavo-regress --device cpu --reference model --policies mlp --prompts prompts.txt --out out --steps 1 --size 64x64 --reuse "$@" 2>&1 >>log | grep 'made again'; }
compare --vae-tiles || echo nothing to use
compare --vae-tiles || echo used again
compare
