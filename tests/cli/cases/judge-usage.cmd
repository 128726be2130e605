judge
judge --picture a.png --prompts a.txt
judge --picture a.png --caption 'a red star' --out scores.jsonl
judge --prompts a.txt --caption 'a red star'
judge --prompts a.txt
judge --picture a.png
