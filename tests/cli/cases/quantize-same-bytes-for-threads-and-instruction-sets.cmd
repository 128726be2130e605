for threads in 1 2 3 7 16; do
    for cpu in c avx2 avx512; do
        octavo-quantize --model "$MODELS/folder" --policy all --calibration "$MODELS/calibration.json" \
            --out out-$threads-$cpu.safetensors --threads $threads --cpu $cpu --quiet >/dev/null
    done
done
cat out-*.safetensors.sha256 | cut -c 1-64 | sort -u | wc -l
