octavo-verify "$MODELS"
