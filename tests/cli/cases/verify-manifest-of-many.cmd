mkdir sub
cp "$MODELS/fp8.safetensors" "$MODELS/weight-only.safetensors" .
cp "$MODELS/prompts.txt" 'sub/odd
name\here'
octavo-verify --write-manifest SHA256SUMS fp8.safetensors weight-only.safetensors sub/*
cat SHA256SUMS
sha256sum -c --strict SHA256SUMS
sha256sum --binary fp8.safetensors >theirs
sha256sum --tag weight-only.safetensors sub/* >>theirs
(cd / && octavo-verify --manifest "$OLDPWD/theirs") | sed "s#$PWD#HERE#"
octavo-verify fp8.safetensors --manifest theirs | head -n 1
patch-file flip fp8.safetensors -1
rm sub/*
octavo-verify --manifest SHA256SUMS --junit junit.xml
echo "exit $?"
cat junit.xml
octavo-verify --manifest SHA256SUMS --json
