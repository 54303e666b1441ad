#!/usr/bin/env bash
# Runs fuzz targets one after the other, each for so many minutes (fractions too); all of them unless named.
#
#     tests/fuzz/run.sh MINUTES [TARGET...]
#
# Exit status 1 if one found something: the input then lies in tests/fuzz/artifacts/TARGET, and
# `target/fuzz/*/release/TARGET FILE` shows it again. What was learned stays in target/fuzz/corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

minutes=${1:?how many minutes each}
shift
targets=("$@")
((${#targets[@]})) || targets=(image body manifest checkpoint graph oip grpc map_codec connection)

tests/fuzz/build.sh
tests/fuzz/seeds.py target/fuzz/seeds
host=$(rustc -vV | sed -n 's/^host: //p')
seconds=$(awk -v minutes="$minutes" 'BEGIN { print int(60 * minutes) }')

# Some targets need files; memory will do.
scratch=$(mktemp -d "$([[ -w /dev/shm ]] && echo /dev/shm || echo /tmp)/patchlight-fuzz.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

status=0
for target in "${targets[@]}"; do
  corpus=target/fuzz/corpus/$target artifacts=tests/fuzz/artifacts/$target
  mkdir -p "$corpus" "$artifacts"
  options=(
    "-max_total_time=$seconds" -timeout=5 -rss_limit_mb=2048 -max_len=81920 -print_final_stats=1 -verbosity=1
    "-artifact_prefix=$artifacts/"
  )
  dictionary=tests/fuzz/dictionaries/$target.dict
  [[ ! -e $dictionary ]] || options+=("-dict=$dictionary")
  printf '\n==> %s, %d s\n' "$target" "$seconds"
  # Memory that is still held at the end says nothing here.
  TMPDIR=$scratch ASAN_OPTIONS=detect_leaks=0 "target/fuzz/$host/release/$target" "${options[@]}" \
    "$corpus" "target/fuzz/seeds/$target" || status=1
done
exit $status
