octavo-quantize --version
