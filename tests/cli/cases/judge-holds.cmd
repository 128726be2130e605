judge --picture "$MODELS/scene.png" --caption 'three medium striped yellow squares below two dotted blue diamonds on a green background'
