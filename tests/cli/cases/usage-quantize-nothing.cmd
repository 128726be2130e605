octavo-quantize
