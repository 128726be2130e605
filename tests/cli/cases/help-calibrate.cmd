octavo-calibrate --help
