model=$MODELS/fp8.safetensors
digest=$(cut -c1-64 "$model.sha256")
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %s\n' "$digest" "$(stat -c %s "$model")" >pointer
octavo-verify "$model" --lfs-pointer pointer | head -n 1
octavo-verify "$model" --manifest pointer | head -n 1
octavo-verify "$model" --sha256 "sha256:$digest" | head -n 1
octavo-verify "$model" --hf-etag "W/\"$digest\"" | head -n 1
mkdir -p hub/blobs hub/snapshots
cp "$model" "hub/blobs/$digest"
ln -s "../blobs/$digest" hub/snapshots/model.safetensors
octavo-verify hub/snapshots/model.safetensors | sed "s#$PWD/##" | head -n 1
sed 's/^size ./size 9/' pointer >wrong-size
octavo-verify "$model" --lfs-pointer wrong-size | grep -e FAIL -e verdict
octavo-verify "$model" --lfs-pointer "$MODELS/prompts.txt"
octavo-verify "$model" --hf-etag 0123456789012345678901234567890123456789
octavo-verify "$model" --sha256 "$digest" --lfs-pointer pointer
