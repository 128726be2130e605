cp -r "$MODELS/folder" model
sed 's/"sample_size": 1024/"sample_size": 16/' "$MODELS/folder/vae/config.json" >model/vae/config.json
octavo-render --device cpu --model model --prompt x --out images --steps 1 --size 64x64 --quiet
