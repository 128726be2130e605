octavo-quantize --help
