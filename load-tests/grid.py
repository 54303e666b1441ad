#!/usr/bin/env python3
"""`--batching auto` against a grid of fixed settings, at 25, 50, 75 and 95 % of capacity.

    cargo build --release --workspace
    load-tests/grid.py [--seconds 10] [--rounds 2] [--model DIR] [--max-batch 8] [--json FILE]

A fixed setting takes all that waits, up to its own largest batch (`--batching greedy --max-batch N`).
All servers run side by side and are loaded in turn: in every round and at every load each gets the
very same Poisson arrivals. Capacity is the best that any of them does in a closed loop, found in the
same run. Auto and the largest fixed setting run twice, as two servers: what lies between these is noise.
Exit status 1 if auto is more than 5 % behind the best fixed setting anywhere.
"""

import argparse
import contextlib
import statistics
import sys

import harness
import images
from harness import Server, generate

# The same in both tables: what is compared, and whether more of it is better.
FIGURES = {"throughput": True, "p50": False, "p99": False}
# The control's name ends so.
AGAIN = ", again"


def settings(largest):
    """Flags of each setting by its name."""
    sizes = [1 << n for n in range(largest.bit_length()) if 1 << n < largest] + [largest]
    fixed = {f"up to {size}": ["--batching", "greedy", "--max-batch", str(size)] for size in sizes}
    auto = ["--batching", "auto", "--max-batch", str(largest)]
    again = {f"auto{AGAIN}": auto, f"up to {largest}{AGAIN}": fixed[f"up to {largest}"]}
    return {"auto": auto, **fixed, **again}


def figures(report):
    latency = report["latency_ms"]
    return {"throughput": report["throughput"], "p50": latency["p50"], "p99": latency["p99"]}


def median(rounds):
    return {name: statistics.median(one[name] for one in rounds) for name in FIGURES}


def run(args):
    names, files = settings(args.max_batch), images.small(args.images)
    if args.largest_only:
        two = ("auto", f"up to {args.max_batch}")
        names = {name: own for name, own in names.items() if name.removesuffix(AGAIN) in two}
    flags = ["--request-timeout", "60s", "--log", "error", *(["--model", args.model] if args.model else [])]
    shares = [share / 100 for share in args.percent]
    found = {share: {name: [] for name in names} for share in shares}
    sizes = {share: [] for share in shares}
    with contextlib.ExitStack() as stack:
        urls = {
            name: f"http://127.0.0.1:{stack.enter_context(Server(*flags, *own, program=args.program)).port}/classify"
            for name, own in names.items()
        }
        closed = {}
        for name, url in urls.items():
            harness.progress(f"capacity: {name}")
            # Long enough for auto to have met every size.
            report = generate(url, files, args.seconds / 2, warmup=args.seconds / 4, clients=4 * args.max_batch)
            closed[name] = report["throughput"]
        capacity = max(closed.values())
        for number in range(args.rounds):
            for share in shares:
                # Each round begins with another setting, so that a drift of the machine hits all alike.
                order = list(urls)[number % len(urls) :] + list(urls)[: number % len(urls)]
                for name in order:
                    harness.progress(f"round {number + 1} of {args.rounds}: {share:.0%} of {capacity:.1f}/s, {name}")
                    report = generate(urls[name], files, args.seconds, rate=share * capacity, seed=number + 1)
                    found[share][name].append(figures(report))
                    if name == "auto" and report.get("batch_sizes"):
                        sizes[share].append(report["batch_sizes"]["mean"])
    return summary(args, capacity, closed, found, sizes)


def summary(args, capacity, closed, found, sizes):
    rows, failures, loads = [], [], {}
    for share, by_name in found.items():
        mid = {name: median(rounds) for name, rounds in by_name.items()}
        best, control = {}, list(mid)[-1]
        for figure, more in FIGURES.items():
            fixed = [(one[figure], name) for name, one in mid.items() if not name.startswith("auto") and not name.endswith(AGAIN)]
            value, name = max(fixed) if more else min(fixed)
            ratio = mid["auto"][figure] / value if value else float("nan")
            noise = mid[control][figure] / mid[control.removesuffix(AGAIN)][figure]
            best[figure] = {"best": value, "setting": name, "auto_over_best": ratio, "again_over_itself": noise}
            behind = 1 / ratio - 1 if more else ratio - 1
            if behind > 0.05:
                failures.append(f"{share:.0%}: {figure} of auto is {behind:.0%} behind {name}")
        loads[share] = {"settings": mid, "rounds": by_name, "best_fixed": best, "pictures_a_batch_of_auto": sizes[share]}
        for name, one in mid.items():
            rows.append([f"{share:.0%}", name, f"{one['throughput']:.1f}/s", f"{one['p50']:.1f} ms", f"{one['p99']:.1f} ms"])
        over = {figure: f"{one['auto_over_best']:.2f}" for figure, one in best.items()}
        rows.append([f"{share:.0%}", "auto over the best fixed", over["throughput"], over["p50"], over["p99"]])
        again = {figure: f"{one['again_over_itself']:.2f}" for figure, one in best.items()}
        rows.append([f"{share:.0%}", "the largest over itself", again["throughput"], again["p50"], again["p99"]])
    harness.table(["load", "setting", "throughput", "p50", "p99"], rows)
    result = {
        "machine": harness.machine(),
        "model": args.model or "demo",
        "images": args.images,
        "seconds": args.seconds,
        "rounds": args.rounds,
        "capacity_per_s": capacity,
        "closed_loop_per_s": closed,
        "loads": loads,
    }
    return harness.report("grid", result, failures, args.json)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--percent", type=float, nargs="+", default=[25, 50, 75, 95], help="of capacity")
    parser.add_argument("--largest-only", action="store_true", help="auto beside the largest fixed setting alone")
    parser.add_argument("--max-batch", type=int, default=8)
    parser.add_argument("--model", help="directory [default: the demo]")
    images.add_option(parser)
    parser.add_argument("--json")
    parser.add_argument("--program")
    sys.exit(run(parser.parse_args()))


if __name__ == "__main__":
    main()
