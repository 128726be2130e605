octavo-quantize --model x --dequantize f16 --policy all --out y
octavo-quantize --model x --redialect comfy --plan
octavo-quantize --model x --redialect comfy --dequantize f16 --out y
octavo-quantize --model x --dequantize f32 --out y
octavo-quantize --model x --redialect gguf --out y
