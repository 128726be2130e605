octavo-regress
