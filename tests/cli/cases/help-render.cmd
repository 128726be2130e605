octavo-render --help
