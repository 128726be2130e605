octavo-verify --help
