#!/usr/bin/env bash
# One saturation of a server that is already running here: closed loop.
#
#   load-tests/saturate.sh IMAGE_OR_FOLDER…
#
# CLIENTS (32), DURATION (60s), WARMUP (10s), URL and JSON (target/saturation.json) come from the environment.
set -euo pipefail

if (($# == 0)); then
  echo "usage: load-tests/saturate.sh IMAGE_OR_FOLDER…" >&2
  exit 2
fi

url=${URL:-http://127.0.0.1:8080/classify}
manifest=$(dirname "${BASH_SOURCE[0]}")/Cargo.toml

if ! curl --silent --show-error --fail --max-time 5 --output /dev/null "${url%/classify*}/readyz"; then
  echo "no server is ready at $url; start one with: cargo run --release" >&2
  exit 1
fi
exec cargo run --release --quiet --manifest-path "$manifest" -- \
  --url "$url" \
  --clients "${CLIENTS:-32}" --duration "${DURATION:-60s}" --warmup "${WARMUP:-10s}" \
  --json "${JSON:-target/saturation.json}" \
  "$@"
