one=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
try() { printf "$1" >list; octavo-verify --manifest list; }
try "$one  ../fp8.safetensors\n"
try "$one  /etc/passwd\n"
try "$one  list\n"
try "$one other\n"
try "${one}0  other\n"
try "E${one#e}  other\n"
try "$one  other\n0${one#e}  other\n"
try ''
mkdir elsewhere
octavo-verify --write-manifest elsewhere/SHA256SUMS "$MODELS/fp8.safetensors"
octavo-verify --write-manifest list ./list
octavo-verify --write-manifest out.sha256
octavo-verify --write-manifest out.sha256 no-such-file
test -e out.sha256
