octavo-regress --threads x
