#!/usr/bin/env bash
# Installs requirements.txt and package.json below target/, once, and prints the folder that they are in.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

folder=target/ci/clouds
mkdir -p "$folder"
exec 9>"$folder.lock"
flock 9
if ! cmp -s tests/clouds/requirements.txt "$folder/requirements.txt"; then
  rm -rf "$folder/venv"
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --requirement tests/clouds/requirements.txt >&2
  cp tests/clouds/requirements.txt "$folder/requirements.txt"
fi
if ! cmp -s tests/clouds/package.json "$folder/installed.json"; then
  rm -rf "$folder/node_modules"
  cp tests/clouds/package.json "$folder/package.json"
  npm install --prefix "$folder" --silent --no-audit --no-fund >&2
  cp tests/clouds/package.json "$folder/installed.json"
fi
cp tests/clouds/*.mjs "$folder"
echo "$PWD/$folder"
