#!/usr/bin/env bash
# Measures the maps of the demo model anew and writes ../../docs/evaluation: table, plot and numbers.
#   models/training/evaluate_maps.sh WORK [PICTURES]
# WORK holds drawings.npz (drawings.py); 400 pictures take about ten minutes on two cores.
# PYTHON chooses the interpreter that has requirements.txt.
set -euo pipefail
work=$(realpath "${1:?usage: evaluate_maps.sh WORK [PICTURES]}")
count=${2:-400}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pictures=$(mktemp -d)
trap 'rm -r "$pictures"' EXIT

(cd "$here" && "${PYTHON:-python3}" pictures.py --work "$work" --out "$pictures" --pictures "$count")
cd "$here/../.."
cargo run --release --quiet -- evaluate "$pictures" --out docs/evaluation
