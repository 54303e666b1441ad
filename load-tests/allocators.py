#!/usr/bin/env python3
"""Memory and throughput under load with other allocators, preloaded in place of the C library's.

    apt-get install libjemalloc2 libmimalloc2.0
    cargo build --release --workspace
    load-tests/allocators.py [--seconds 20] [--rounds 3] [--json FILE]

The servers run side by side and are loaded in turn; memory is read after each round. What is not
installed here is left out, and that is said. Growth counts from the end of the first round, when the
largest batches have been there and the map store (small here) is full.
"""

import argparse
import contextlib
import glob
import statistics
import sys

import harness
import images
from harness import Server, generate, status_bytes

MIB = 2**20
# What is preloaded or set, by name.
KINDS = {
    "C library, as the program sets it": {},
    # What glibc's thresholds grow to by themselves once large images were freed.
    "C library, thresholds grown": {"MALLOC_MMAP_THRESHOLD_": str(32 * MIB), "MALLOC_TRIM_THRESHOLD_": str(64 * MIB)},
    "C library, two arenas": {"MALLOC_ARENA_MAX": "2"},
    "jemalloc": {"LD_PRELOAD": "libjemalloc.so*"},
    "mimalloc": {"LD_PRELOAD": "libmimalloc.so*"},
}


def environment(settings):
    """The settings with the library's path in them; none where it is not installed."""
    env = dict(settings)
    if pattern := env.get("LD_PRELOAD"):
        found = sorted(path for folder in ("/usr/lib", "/usr/lib/*-linux-gnu") for path in glob.glob(f"{folder}/{pattern}"))
        if not found:
            return None
        env["LD_PRELOAD"] = found[0]
    return env


def run(args):
    files = images.small(args.images) if args.images == "photographs" else images.samples()
    kinds = {name: environment(settings) for name, settings in KINDS.items()}
    missing = [name for name, env in kinds.items() if env is None]
    rates, memory, rest = {}, {}, {}
    with contextlib.ExitStack() as stack:
        flags = ["--attention-memory", "8MiB", "--log", "error", *(["--model", args.model] if args.model else [])]
        servers = {
            name: stack.enter_context(Server(*flags, program=args.program, env=env)) for name, env in kinds.items() if env is not None
        }
        for name, server in servers.items():
            rest[name] = status_bytes(server.pid, "VmRSS") / MIB
            rates[name], memory[name] = [], []
        for number in range(args.rounds):
            for name, server in servers.items():
                harness.progress(f"round {number + 1} of {args.rounds}: {name}")
                url = f"http://127.0.0.1:{server.port}/classify"
                rates[name].append(generate(url, files, args.seconds, clients=32)["throughput"])
                memory[name].append(status_bytes(server.pid, "VmRSS") / MIB)
        peaks = {name: status_bytes(server.pid, "VmHWM") / MIB for name, server in servers.items()}
    rows = {
        name: {
            "per_s": statistics.median(rates[name]),
            "at_rest_mib": rest[name],
            "after_each_round_mib": memory[name],
            "growth_mib": memory[name][-1] - memory[name][0],
            "peak_mib": peaks[name],
        }
        for name in servers
    }
    lines = [
        [name, f"{row['per_s']:.1f}/s", f"{row['at_rest_mib']:.0f}", f"{row['after_each_round_mib'][-1]:.0f}", f"{row['growth_mib']:+.1f}", f"{row['peak_mib']:.0f}"]
        for name, row in rows.items()
    ]
    harness.table(["allocator", "32 clients", "at rest, MiB", "at the end", "since the first round", "peak"], lines)
    figures = {"machine": harness.machine(), "model": args.model or "demo", "images": args.images, "seconds": args.seconds, "rows": rows, "not_installed": missing}
    return harness.report("allocators", figures, [], args.json)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", help="directory [default: the demo]")
    images.add_option(parser)
    parser.add_argument("--json")
    parser.add_argument("--program")
    sys.exit(run(parser.parse_args()))


if __name__ == "__main__":
    main()
