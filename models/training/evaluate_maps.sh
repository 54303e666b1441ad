#!/usr/bin/env bash
# Measures the maps of the demo model again and writes ../../docs/evaluation: table, plot and numbers.
#   models/training/evaluate_maps.sh WORK [IMAGES]
# WORK holds drawings.npz (drawings.py); 400 images take about ten minutes on two cores.
# PYTHON chooses the interpreter that has requirements.txt.
set -euo pipefail
work=$(realpath "${1:?usage: evaluate_maps.sh WORK [IMAGES]}")
count=${2:-400}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
images=$(mktemp -d)
trap 'rm -r "$images"' EXIT

(cd "$here" && "${PYTHON:-python3}" images.py --work "$work" --out "$images" --pictures "$count")
cd "$here/../.."
cargo run --release --quiet -- evaluate "$images" --out docs/evaluation
