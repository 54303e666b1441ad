#!/usr/bin/env python3
"""Clients that hold connections and do nothing with them, beside real load.

    cargo build --release --workspace
    load-tests/slow_clients.py [--seconds 30] [--connections 300] [--json FILE]

First the goodput of a closed loop alone, then the same with one kind of client beside it after the
other, then with all of them at once:

    idle        connections that say nothing
    heads       announced bodies of 10 MiB and of 100 bytes that never come
    dripping    heads and bodies that come a byte at a time
    pings       HTTP/2 connections that only acknowledge pings
    unread      HTTP/2 connections that ask for a large answer and take no byte of it

Whoever is thrown out comes again at once. Exit status 1 if a promise of docs/reliability.md is
broken: goodput at least 0.9 of that alone, /healthz within 50 ms, memory within the base, what real
load takes and the budget for answers that nobody reads. What sends has one core, the server has the
others.
"""

import argparse
import asyncio
import contextlib
import os
import struct
import sys
from pathlib import Path

import harness
from harness import ROOT, Connections, Server, ask, head, now, percentile, status_bytes

IMAGE = (ROOT / "models/samples/dog.jpg").read_bytes()
MIB = 1 << 20

# What src/server/answers.rs allows, at the utmost.
UNREAD_BUDGET = 256 * MIB
# A connection with its buffers and its task.
BYTES_PER_CONNECTION = 128 << 10

MAX_CONCURRENT_STREAMS = 3
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    """RFC 9113, section 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def settings(window):
    return frame(4, 0, 0, struct.pack(">HI", 4, window))


def get(stream, path):
    """A request's header block: indexed fields, and the path as a literal (RFC 7541)."""
    block = b"\x82\x86" + b"\x04" + bytes([len(path)]) + path.encode() + b"\x01\x01a"
    return frame(1, 5, stream, block)


async def acknowledge(reader, writer, path=None):
    """Settings and pings, until the server has had enough. Asks for `path` as often at a time as it
    allows."""
    while True:
        start = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(start[:3], "big"))
        kind, flags = start[3], start[4]
        if kind not in (4, 6) or flags & 1:
            continue
        writer.write(frame(kind, 1, 0, payload if kind == 6 else b""))
        if kind == 4 and path:
            allowed = dict(struct.iter_unpack(">HI", payload)).get(MAX_CONCURRENT_STREAMS, 100)
            writer.writelines(get(1 + 2 * number, path) for number in range(allowed))
        await writer.drain()


async def idle(reader, writer, _):
    await reader.read()


async def heads(reader, writer, number):
    writer.write(head("POST", "/classify", 10 * MIB if number % 4 == 0 else 100))
    await reader.read()


async def dripping(reader, writer, number):
    request = head("POST", "/classify", 1000) + IMAGE[:1000] if number % 2 else head("GET", "/" + "x" * 1000)
    for byte in request:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.5)


async def pings(reader, writer, _):
    writer.write(PREFACE + settings(65535))
    await acknowledge(reader, writer)


async def unread(reader, writer, _):
    writer.write(PREFACE + settings(0))
    await acknowledge(reader, writer, "/openapi.json")


KINDS = {kind.__name__: kind for kind in (idle, heads, dripping, pings, unread)}


async def client(port, kind, number):
    """One of a kind, again and again."""
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await kind(reader, writer, number)
            finally:
                writer.transport.abort()
        await asyncio.sleep(0.1)


async def load(port, seconds, clients=4):
    """A closed loop of classifications: answers a second, and what else came."""
    connections, good, other, end = Connections(port), 0, {}, now() + seconds

    async def one():
        nonlocal good
        while now() < end:
            try:
                status, _, _ = await connections.ask("POST", "/classify?attention=none", IMAGE)
            except (OSError, asyncio.IncompleteReadError) as error:
                status = type(error).__name__
            if status == 200:
                good += 1
            else:
                other[status] = other.get(status, 0) + 1
                await asyncio.sleep(0.01)

    await asyncio.gather(*(one() for _ in range(clients)))
    connections.close()
    return good / seconds, other


async def probe(port, took):
    """/healthz as a probe asks for it, on a connection of its own."""
    while True:
        began = now()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            status, _, _ = await asyncio.wait_for(ask(port, "GET", "/healthz"), 10)
            took.append(now() - began if status == 200 else float("inf"))
        await asyncio.sleep(0.2)


async def beside(server, kinds, args):
    """Goodput, probes and memory with clients of these kinds beside the load."""
    each = args.connections // max(1, len(kinds))
    waiting = [asyncio.create_task(client(server.port, kind, n)) for kind in kinds for n in range(each)]
    took = []
    watching = asyncio.create_task(probe(server.port, took))
    await asyncio.sleep(1)
    goodput, other = await load(server.port, args.seconds)
    memory = status_bytes(server.pid, "VmRSS")
    for task in [*waiting, watching]:
        task.cancel()
    await asyncio.gather(*waiting, watching, return_exceptions=True)
    return {
        "goodput_per_s": round(goodput, 1),
        "other_answers": other,
        "healthz_p99_ms": round(percentile(took, 0.99) * 1000, 1),
        "probes": len(took),
        "memory_mib": round(memory / MIB, 1),
    }


async def run(args):
    cores, own = harness.split_cores()
    if own:
        os.sched_setaffinity(0, own)
    failures, rows = [], {}
    with Server("--log", "error", program=args.program, cores=cores) as server:
        await load(server.port, args.seconds / 3)
        for name, kinds in {"alone": [], **{name: [kind] for name, kind in KINDS.items()}, "all": list(KINDS.values()), "alone again": []}.items():
            harness.progress(f"{name}, {args.seconds} s")
            rows[name] = await beside(server, kinds, args)
        peak = status_bytes(server.pid, "VmHWM")
    # The machine may have become slower meanwhile: the better of both ends would be unfair to it.
    alone = min(rows["alone"]["goodput_per_s"], rows["alone again"]["goodput_per_s"])
    allowed = rows["alone"]["memory_mib"] * MIB + UNREAD_BUDGET + args.connections * BYTES_PER_CONNECTION
    for name, row in rows.items():
        row["of_alone"] = round(row["goodput_per_s"] / alone, 2) if alone else 0
        if row["of_alone"] < 0.9:
            failures.append(f"{name}: goodput is {row['of_alone']} of that alone")
        if row["healthz_p99_ms"] > 50 or not row["probes"]:
            failures.append(f"{name}: /healthz takes {row['healthz_p99_ms']} ms")
        if row["other_answers"]:
            failures.append(f"{name}: {row['other_answers']}")
    if peak > allowed:
        failures.append(f"memory grew to {peak / MIB:.0f} MiB, {allowed / MIB:.0f} are allowed")
    figures = {"machine": harness.machine(), "connections": args.connections, "rows": rows, "peak_mib": round(peak / MIB, 1)}
    names = ["goodput_per_s", "of_alone", "healthz_p99_ms", "memory_mib"]
    harness.table(["beside", *names], [[name, *(row[field] for field in names)] for name, row in rows.items()])
    return harness.report("slow_clients", figures, failures, args.json)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30, help="for each kind")
    parser.add_argument("--connections", type=int, default=300)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--program")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
