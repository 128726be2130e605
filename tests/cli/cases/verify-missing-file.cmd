octavo-verify no-such-file.safetensors
