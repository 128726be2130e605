octavo-calibrate --device cpu --model "$MODELS/folder" --prompts "$MODELS/prompts.txt" --steps 2 --size 64x64 --out c.json --quiet
plan() { octavo-quantize --model "$MODELS/folder" --policy all --plan "$@"; }
plan --calibration c.json | grep -e '^layer' -e '^in dB'
plan --calibration c.json | grep 'mlp.fc1' | head -n 1 | awk '{ print $5, ($7 > 20 && $7 < 40), $8 ~ /^[0-9.]+%$/ }'
plan --calibration c.json --json | grep -o '"input_underflow"' | sort -u
plan --calibration c.json --json | grep -o '"input_sqnr_db":[23]' | sort -u
tr -d '\n\t' <c.json | sed 's/, *"exponents": *\[[^]]*\]//g' >old.json
plan --calibration old.json | grep -e 'layer  ' -e zeroed
plan | grep -c 'zeroed' || true
