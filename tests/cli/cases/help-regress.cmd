octavo-regress --help
