octavo-calibrate --threads x
