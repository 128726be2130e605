mkdir pictures
cp "$MODELS/scene.png" pictures/right.png
cp "$MODELS/scene.png" pictures/wrong-17.png
cat >prompts.jsonl <<'END'
{"id": "right", "prompt": "three medium striped yellow squares below two dotted blue diamonds on a green background"}
{"id": "wrong", "prompt": "two medium striped yellow squares left of two striped blue diamonds on a green background"}
END
judge --prompts prompts.jsonl --pictures pictures --out scores.jsonl
cat scores.jsonl
judge --prompts prompts.jsonl --pictures pictures --json
