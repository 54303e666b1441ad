#!/usr/bin/env python3
"""Overload: 1, 2, 4 and 10 times what the server can do, open loop, then whether it recovers.

    cargo build --release --workspace
    load-tests/overload.py [--seconds 20] [--deadline 2] [--json FILE]

Finds the capacity with the closed loop of patchlight-load, then offers multiples of it. Goodput
counts answers within the deadline. What sends has one core, the server has the others. Exit status 1 if a promise of docs/reliability.md is broken.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import images
from harness import ROOT, Connections, Server, ask, now, percentile


def capacity(port, files, seconds):
    """Answers a second that a closed loop gets."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        loader = ROOT / "target/release/patchlight-load"
        command = [loader, "--clients", "16", "--duration", f"{seconds}s", "--warmup", "3s", "--json", file.name]
        url = f"http://127.0.0.1:{port}/classify?attention=none"
        subprocess.run([*command, "--url", url, *files], check=True, stdout=subprocess.DEVNULL)
        result = json.loads(Path(file.name).read_text())
    return result["throughput"]


async def offer(port, files, rate, seconds, deadline):
    """Requests at Poisson times, whatever becomes of the others."""
    bodies = itertools.cycle([file.read_bytes() for file in files])
    rng = random.Random(1)
    connections = Connections(port)
    accepted, refused, late_starts, other, probes, retry_after = [], [], [], {}, [], []
    good = []

    async def one(due):
        sent = now()
        late_starts.append(sent - due)
        try:
            more = f"Request-Timeout: {deadline}\r\n"
            status, headers, _ = await connections.ask("POST", "/classify?attention=none", next(bodies), more)
        except (OSError, asyncio.IncompleteReadError) as error:
            other[type(error).__name__] = other.get(type(error).__name__, 0) + 1
            return
        if status == 503:
            refused.append(now() - sent)
            retry_after.append(float(headers.get("retry-after", "inf")))
        elif status in (200, 504):
            # A request that is let in and not answered in time counts as accepted, too.
            took = now() - due
            accepted.append(took if status == 200 else max(took, 1.001 * deadline))
            if status == 200 and took <= deadline:
                good.append(now())
        else:
            other[status] = other.get(status, 0) + 1

    async def probe():
        while True:
            began = now()
            for path in ("/healthz", "/metrics"):
                status, _, _ = await ask(port, "GET", path)
                assert status == 200, f"{path} answered {status}"
            probes.append(now() - began)
            await asyncio.sleep(0.5)

    watching = asyncio.create_task(probe())
    began, used = now(), time.process_time()
    due, running = began, set()
    while due < began + seconds:
        await asyncio.sleep(max(0, due - now()))
        task = asyncio.create_task(one(due))
        running.add(task)
        task.add_done_callback(running.discard)
        due += rng.expovariate(rate)
    end = now()
    share = (time.process_time() - used) / (end - began)
    await asyncio.gather(*running)
    watching.cancel()
    connections.close()
    # The first of them fill the queue, the last empty it.
    steady = [at for at in good if began + deadline < at <= end]
    return {
        "offered_per_s": rate,
        "goodput_per_s": len(steady) / (end - began - deadline),
        "accepted": len(accepted),
        "accepted_p99_s": percentile(accepted, 0.99),
        "late": len(accepted) - len(good),
        "refused": len(refused),
        "refused_p99_ms": percentile(refused, 0.99) * 1000,
        "retry_after_s": [min(retry_after, default=None), max(retry_after, default=None)],
        "probe_p99_ms": percentile(probes, 0.99) * 1000,
        "sent_late_p99_ms": percentile(late_starts, 0.99) * 1000,
        "generator_share_of_a_core": round(share, 2),
        "other": other,
    }


async def recovery(port, files, rate, deadline):
    """Seconds until 20 requests in a row at half the capacity all succeed."""
    body, began, in_a_row = files[0].read_bytes(), now(), 0
    while in_a_row < 20 and now() - began < 60:
        status, _, _ = await ask(port, "POST", "/classify?attention=none", body, f"Request-Timeout: {deadline}\r\n")
        in_a_row = in_a_row + 1 if status == 200 else 0
        if in_a_row == 1:
            first = now() - began
        await asyncio.sleep(2 / rate)
    return first if in_a_row >= 20 else float("inf")


async def run(args):
    files = images.small(args.images)
    cores, own = harness.split_cores()
    if own:
        os.sched_setaffinity(0, own)
    flags = ["--request-timeout", f"{args.deadline}s", "--log", "warn"]
    with Server(*flags, program=args.program, cores=cores) as server:
        able = capacity(server.port, files, args.seconds / 2)
        rows = {}
        for times in (1, 2, 4, 10):
            harness.progress(f"{times} × {able:.0f}/s for {args.seconds} s")
            rows[times] = await offer(server.port, files, times * able, args.seconds, args.deadline)
        seconds = await recovery(server.port, files, able, args.deadline)
    failures = []
    base = rows[1]["goodput_per_s"]
    print("\n| offered | goodput/s | of 1× | p99 of accepted | late | refused | p99 of refusals | probes p99 |")
    print("|---|---|---|---|---|---|---|---|")
    for times, row in rows.items():
        share = row["goodput_per_s"] / base if base else 0
        print(
            f"| {times}× | {row['goodput_per_s']:.1f} | {share:.2f} | {row['accepted_p99_s'] * 1000:.0f} ms | {row['late']} "
            f"| {row['refused']} | {row['refused_p99_ms']:.0f} ms | {row['probe_p99_ms']:.0f} ms |"
        )
        if share < 0.95:
            failures.append(f"{times}×: goodput is {share:.2f} of that at 1×")
        if row["accepted_p99_s"] > args.deadline:
            failures.append(f"{times}×: p99 of what was accepted is {row['accepted_p99_s']:.2f} s")
        if any(seconds is not None and not 1 <= seconds <= 60 for seconds in row["retry_after_s"]):
            failures.append(f"{times}×: Retry-After is {row['retry_after_s']}")
        if row["refused"] and row["refused_p99_ms"] > 50:
            failures.append(f"{times}×: refusals take {row['refused_p99_ms']:.0f} ms")
        if row["other"]:
            failures.append(f"{times}×: {row['other']}")
    if seconds > 10:
        failures.append(f"recovery took {seconds:.1f} s")
    figures = {
        "server_cores": len(cores) if cores else "shared",
        "capacity_per_s": able,
        "rows": rows,
        "recovery_s": seconds,
    }
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2))
    return harness.report("overload", figures, failures)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="at each multiple")
    parser.add_argument("--deadline", type=float, default=2)
    images.add_option(parser)
    parser.add_argument("--json")
    parser.add_argument("--program")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
