#!/usr/bin/env bash
# Builds the fuzz targets into target/fuzz, with the compiler that builds the program.
# Needs a C++ compiler besides. `cargo fuzz build --fuzz-dir tests/fuzz` does as well, with cargo-fuzz and a nightly.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

host=$(rustc -vV | sed -n 's/^host: //p')

# The crates under test are those that the program is built of.
cp Cargo.lock tests/fuzz/Cargo.lock

# Coverage for the fuzzer, and AddressSanitizer, which stable compilers carry but do not offer.
flags=(
  --cfg fuzzing
  -Cpasses=sancov-module
  -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares
  -Zsanitizer=address
)

# No target runs a model, so the ONNX Runtime need not be fetched.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="${flags[*]}" ORT_DYLIB_PATH=none \
  cargo build --release --manifest-path tests/fuzz/Cargo.toml --target "$host" --target-dir target/fuzz "$@"
