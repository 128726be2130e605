printf 'fine\nbad \377 bytes\n' >prompts.txt
octavo-render --device cpu --model "$MODELS/folder" --prompts prompts.txt --out images
