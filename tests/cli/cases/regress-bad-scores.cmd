try() { octavo-regress --device cpu --reference "$MODELS/folder" --policies all --prompts "$MODELS/prompts.txt" --out report --size 64x64 "$@"; echo "exit $?"; }
line() { echo "{\"id\": \"$1\", \"metric\": \"$2\", \"value\": $3}"; }
{ line 0000 a 1; line 0001 a 1; } >good.jsonl
{ line 0000 a 1; line 0000 a 1; } >twice.jsonl
line 0000 a 1 >missing.jsonl
line 0000 a '"x"' >text.jsonl
line dog a 1 >unknown.jsonl
{ line 0000 b 1; line 0001 b 1; } >other.jsonl
echo '{"id": "0000", "metric": "a"' >cut.jsonl
for name in twice missing text unknown cut; do try --scores reference=$name.jsonl all=good.jsonl; done
try --scores reference=good.jsonl
try --scores reference=good.jsonl all=other.jsonl
try --scores reference=good.jsonl mlp=good.jsonl
try --scores all=good.jsonl all=good.jsonl
try --scores good.jsonl
try --max-score-drop a=0.1
try --scores reference=good.jsonl all=good.jsonl --max-score-drop a
try --scores reference=good.jsonl all=good.jsonl --max-score-drop a=-1
ls -d report
