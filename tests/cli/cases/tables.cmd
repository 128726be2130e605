score() { echo "{\"metric\": \"$1\", \"mean\": $2, \"reference_mean\": 0.9, \"difference\": -0.1, \"difference_low\": -0.2, \"difference_high\": -0.05}"; }
echo "{\"candidates\": [{\"name\": \"mlp\", \"layers\": 4, \"fp8_layers\": 2, \"summary\": {\"psnr_db_mean\": 31.5},
    \"scores\": [$(score pocket_caption 0.8), $(score pocket_clauses 0.8)], \"outcomes\": []}]}" >report.json
tables --calibration "$MODELS/calibration.json" --report report.json --out measured.json >result
sed -n '1,4p' result
tail -n 4 result
grep -c '"layer"' measured.json
echo '{"candidates": [{"name": "mlp"}]}' >unscored.json
tables --calibration "$MODELS/calibration.json" --report unscored.json >result
