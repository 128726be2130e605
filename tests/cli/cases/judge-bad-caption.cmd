judge --picture "$MODELS/scene.png" --caption 'a pink star'
