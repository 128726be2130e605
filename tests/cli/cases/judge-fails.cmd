judge --picture "$MODELS/scene.png" --json \
    --caption 'four medium striped yellow squares below two dotted blue diamonds on a green background'
