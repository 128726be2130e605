octavo-quantize --polcy all
