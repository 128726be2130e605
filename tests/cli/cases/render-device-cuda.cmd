# Without a GPU: each machine has its own reason.
CUDA_VISIBLE_DEVICES= octavo-render --model "$MODELS/folder" --prompt x --out images --size 64x64 --device cuda:0 2>log
status=$?
sed 's/used: .*/used: REASON/' log
exit $status
