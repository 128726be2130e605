octavo-quantize --threads x
