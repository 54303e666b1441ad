#!/usr/bin/env bash
# Installs NVIDIA's run-time compiler, the version of the CUDA image, and prints where its library is: for
# tests that compile the kernels and need no card. Nothing is installed outside target/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

pinned=$(grep '^nvidia-cuda-nvrtc==' container/cuda-requirements.txt)
folder=target/ci/nvrtc
mkdir -p "$folder"
if [[ ! -f $folder/installed ]] || [[ $(<"$folder/installed") != "$pinned" ]]; then
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --upgrade --no-deps --require-hashes \
    --target "$folder" --requirement <(printf '%s\n' "$pinned") >&2
  printf '%s' "$pinned" >"$folder/installed"
fi
library=$(find "$PWD/$folder" -name 'libnvrtc.so.*' -not -name '*alt*' -print -quit)
[[ -n $library ]] || { echo "nvrtc.sh: $folder has no libnvrtc.so: pip installed something else" >&2; exit 1; }
dirname "$library"
