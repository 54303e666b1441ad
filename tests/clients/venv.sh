#!/usr/bin/env bash
# Installs requirements.txt into a virtual environment below target/, once, and prints its interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

venv=target/ci/clients
wanted=tests/clients/requirements.txt
mkdir -p target/ci
exec 9>"$venv.lock"
flock 9
if ! cmp -s "$wanted" "$venv/installed.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$wanted" >&2
  cp "$wanted" "$venv/installed.txt"
fi
echo "$PWD/$venv/bin/python"
