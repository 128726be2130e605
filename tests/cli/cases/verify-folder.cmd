octavo-verify "$MODELS"
cp -r "$MODELS/folder" model
octavo-verify --write-manifest SHA256SUMS model/transformer/*.safetensors model/vae/*.safetensors model/text_encoder*/*.safetensors
sha256sum -c --strict SHA256SUMS
octavo-verify model --manifest SHA256SUMS
octavo-verify model --strict | tail -n 2
patch-file flip-tensor model/transformer/diffusion_pytorch_model.safetensors pos_embed.pos_embed 3
octavo-verify model --manifest SHA256SUMS --source "$MODELS/folder" | grep -e FAIL -e verdict
octavo-verify model --manifest SHA256SUMS --json | grep -o '"files":.*"xxh3'
