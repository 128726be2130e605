octavo-verify --threads x
