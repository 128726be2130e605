octavo-calibrate
