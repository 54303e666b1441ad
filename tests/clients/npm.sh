#!/usr/bin/env bash
# Installs package.json into a folder below target/, once, with the programs that use it beside it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

folder=target/ci/hf-js
mkdir -p "$folder"
exec 9>"$folder.lock"
flock 9
if ! cmp -s tests/clients/package.json "$folder/installed.json"; then
  rm -rf "$folder/node_modules"
  cp tests/clients/package.json "$folder/package.json"
  npm install --prefix "$folder" --silent --no-audit --no-fund >&2
  cp tests/clients/package.json "$folder/installed.json"
fi
cp tests/clients/*.mjs "$folder"
