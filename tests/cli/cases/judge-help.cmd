judge --help
