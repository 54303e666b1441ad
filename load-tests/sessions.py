#!/usr/bin/env python3
"""One session of all threads beside several that share them: bare throughput, without a server.

    python load-tests/sessions.py [--model DIR] [--seconds 3] [--rounds 2] [--batch 1 4 8] [--json FILE]

What dividing the threads can gain on this machine, in the stock runtime and in our own engine (`patchlight
bench`). In the stock runtime there is one more division: every session has all threads, which then sleep at
once instead of spinning. All take turns. Needs load-tests/requirements.txt.
"""

import argparse
import os
import sys
from pathlib import Path

import bare
import harness
import images
from harness import ROOT
from reference import Model


def run(args):
    model, files = Model(args.model, args.cores), images.small(args.images)
    stock = bare.Stock(model, files, args.cores, args.batch)
    rounds = {f"stock, {name}, batch {batch}": [] for name, batch in stock.cells()}
    for number in range(args.rounds):
        for name, batch in stock.cells():
            harness.progress(f"round {number + 1} of {args.rounds}: stock, {name}, batch {batch}")
            rounds[f"stock, {name}, batch {batch}"].append(stock.run((name, batch), args.seconds))
        harness.progress(f"round {number + 1} of {args.rounds}: our engine")
        rates, _ = bare.ours(args.model, files, args.cores, args.batch, args.seconds, args.program)
        for name, rate in rates.items():
            rounds.setdefault(f"ours, {name}", []).append(rate)
    harness.table(["sessions × threads", *(f"round {n + 1}" for n in range(args.rounds))], [[name, *(f"{rate:.2f}/s" for rate in rates)] for name, rates in rounds.items()])
    figures = {"machine": harness.machine(), "model": str(args.model), "precision": model.precision, "images": args.images, "rounds": rounds}
    return harness.report("sessions", figures, [], args.json)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "models/demo", help="directory [default: the demo]")
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    images.add_option(parser)
    parser.add_argument("--json")
    parser.add_argument("--program")
    sys.exit(run(parser.parse_args()))


if __name__ == "__main__":
    main()
