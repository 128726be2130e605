printf 'a red star\n' >prompts.txt
mkdir pictures
: >pictures/0000-1.png
: >pictures/0000-2.png
judge --prompts prompts.txt --pictures pictures
judge --prompts prompts.txt --pictures nowhere
judge --picture nowhere.png --caption 'a red star'
