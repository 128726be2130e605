# What is chosen depends on the machine, that it is said does not.
octavo-render --model "$MODELS/folder" --prompt x --out images --steps 1 --size 64x64 2>&1 >log | grep -c '^render: running on '
