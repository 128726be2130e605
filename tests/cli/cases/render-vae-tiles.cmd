# The VAE says that 32 pixels are a tile. One picture decoded whole, twice in tiles; and one of a tile.
cp -r "$MODELS/folder" model
sed 's/"sample_size": 1024/"sample_size": 32/' "$MODELS/folder/vae/config.json" >model/vae/config.json
draw() { octavo-render --device cpu --model model --prompt 'a red circle' --steps 1 --quiet --size "$@"; }
draw 64x64 --out whole
draw 64x64 --out a --vae-tiles
draw 64x64 --out b --vae-tiles
draw 32x32 --out small-whole
draw 32x32 --out small --vae-tiles
cmp -s whole/0000-0.png a/0000-0.png || echo 'tiles change a picture'
cmp a/0000-0.png b/0000-0.png && echo 'the same tiles give the same picture'
cmp small-whole/0000-0.png small/0000-0.png && echo 'one tile changes nothing'
