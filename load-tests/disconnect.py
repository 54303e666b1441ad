#!/usr/bin/env python3
"""Clients that leave: half of all requests disconnect at a random moment.

    load-tests/disconnect.py [--requests 10000] [--clients 64]

Afterwards nothing may be left over: no request in flight, nothing queued, no file open that was not
open before; and images run by the engine may not exceed those that stayed by more than those that
had a batch of their own when their client left.
"""

import argparse
import asyncio
import random
import sys

import harness
import images
from harness import Server, ask, head, metrics, now, open_files, read_answer


async def one(port, body, rng, leaves, tally):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        request = head("POST", "/classify?attention=none", len(body)) + body
        if leaves and rng.random() < 0.3:
            # In the middle of the upload.
            writer.write(request[: rng.randrange(len(request))])
            await writer.drain()
            await asyncio.sleep(rng.random() * 0.02)
            tally["left"] += 1
            return
        writer.write(request)
        await writer.drain()
        if leaves:
            await asyncio.sleep(rng.random() * 0.3)
            tally["left"] += 1
            return
        status, _, _ = await read_answer(reader)
        tally[status] = tally.get(status, 0) + 1
    finally:
        # An abort is what a killed client looks like; a close is what a polite one does.
        writer.transport.abort() if rng.random() < 0.5 else writer.close()


async def run(args):
    rng, bodies = random.Random(1), [body for body in images.read(images.samples()) if len(body) < 60_000]
    with Server("--request-timeout", "30s", "--log", "error", program=args.program) as server:
        await ask(server.port, "POST", "/classify", bodies[0])
        files = open_files(server.pid)
        before = await metrics(server.port)
        tally, left = {"left": 0}, iter(range(args.requests))

        async def client():
            for number in left:
                if number % 100 == 0:
                    harness.progress(f"{number} of {args.requests}")
                await one(server.port, rng.choice(bodies), rng, rng.random() < 0.5, tally)

        began = now()
        await asyncio.gather(*(client() for _ in range(args.clients)))
        await asyncio.sleep(2)
        after = await metrics(server.port)
        status, _, _ = await ask(server.port, "POST", "/classify", bodies[0])
        grown = open_files(server.pid) - files
    counted = lambda name: after.get(name, 0) - before.get(name, 0)
    abandoned = {
        stage: counted(f'patchlight_abandoned_total{{stage="{stage}"}}')
        for stage in ("upload", "decode", "queue", "inference")
    }
    ran = counted("patchlight_batch_size_sum")
    stayed = tally.get(200, 0)
    failures = []
    if status != 200:
        failures.append(f"the next good request got {status}")
    if after.get("patchlight_in_flight_requests", 0) > 1:  # the scrape itself
        failures.append(f"{after['patchlight_in_flight_requests'] - 1:.0f} requests are still in flight")
    if any(value for name, value in after.items() if name.startswith("patchlight_queue_depth")):
        failures.append("something is still queued")
    if grown > 4:
        failures.append(f"{grown} more files are open than before")
    # A client that left and was run is either counted as running or got an answer that it did not read.
    most = stayed + tally["left"] - abandoned["upload"] - abandoned["decode"] - abandoned["queue"]
    if not stayed <= ran <= most:
        failures.append(f"{ran:.0f} images ran; {stayed} stayed, at most {most:.0f} could have run")
    if sum(abandoned.values()) > tally["left"]:
        failures.append("more were counted as gone than left")
    refused = {status: n for status, n in tally.items() if status not in ("left", 200)}
    figures = {
        "requests": args.requests,
        "seconds": now() - began,
        "left": tally["left"],
        "answered": stayed,
        "other_answers": refused,
        "abandoned": abandoned,
        "pictures_run": ran,
        "files_grown": grown,
    }
    return harness.report("leave", figures, failures)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--program")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
