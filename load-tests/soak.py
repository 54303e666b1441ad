#!/usr/bin/env python3
"""Long runs: idle, saturation, burst, and the soak with mixed sizes, disconnects and bad files.

    load-tests/soak.py soak --minutes 60 --rate 40      # at 80 % of what overload.py finds
    load-tests/soak.py idle | saturation | burst        # shorter ones
    load-tests/soak.py soak --minutes 3 --rate 5 --leak # must fail: a leak is injected on purpose

The leak is injected outside the server: a proxy between it and the clients keeps what passes, and
the memory that is watched is the proxy's and the server's together.
"""

import argparse
import asyncio
import os
import random
import sys
from contextlib import suppress

import harness
import images
from harness import Server, ask, head, now, open_files, percentile, status_bytes

MIB = 2**20
# What a soak may change, docs/reliability.md.
GROWTH, DRIFT, FILES = 20 * MIB, 0.10, 8
# With fewer answers a 99th percentile is that of a few unlucky ones and says nothing of a drift.
ENOUGH = 3000


class Mix:
    """Requests as they come on a bad day."""

    def __init__(self, kind, bad=0.1, leave=0.05):
        # The samples are of every format; photographs come beside them.
        files = images.samples() + (images.small(kind) if kind == "photographs" else [])
        self.rng, self.good = random.Random(1), images.read(files)
        self.bad, self.leave = bad, leave

    def draw(self):
        body = self.rng.choice(self.good)
        kind = self.rng.random()
        if kind < self.bad:
            cut = bytearray(body[: self.rng.randrange(1, len(body))])
            for _ in range(8):
                cut[self.rng.randrange(len(cut))] ^= 1 << self.rng.randrange(8)
            return "bad", bytes(cut)
        if kind < self.bad + self.leave:
            return "leave", body
        return "good", body


async def leaking_proxy(port, kept):
    """Passes bytes on and keeps them."""

    async def pass_on(reader, writer):
        with suppress(OSError):
            while data := await reader.read(65536):
                kept.append(bytes(data))
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    async def serve(reader, writer):
        with suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pass_on(reader, inner_writer), pass_on(inner_reader, writer))
            inner_writer.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server.sockets[0].getsockname()[1]


def leak_in_child(port):
    """The proxy as a process of its own: its pid and port."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        with os.fdopen(read) as pipe:
            return pid, int(pipe.readline())

    async def forever():
        kept = []
        own = await leaking_proxy(port, kept)
        os.write(write, f"{own}\n".encode())
        await asyncio.Event().wait()

    asyncio.run(forever())
    os._exit(0)


class Run:
    def __init__(self, port, pids, kind):
        self.port, self.pids = port, pids
        self.mix, self.answers = Mix(kind), {}
        self.latencies = []  # (when, seconds) of good images

    async def one(self, due=None):
        kind, body = self.mix.draw()
        began = due or now()
        try:
            if kind == "leave":
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(head("POST", "/classify", len(body)) + body)
                await asyncio.sleep(self.mix.rng.random() * 0.1)
                writer.transport.abort()
                return
            status, _, _ = await ask(self.port, "POST", "/classify", body)
        except (OSError, asyncio.IncompleteReadError) as error:
            status = type(error).__name__
        self.answers[status] = self.answers.get(status, 0) + 1
        if kind == "good" and status == 200:
            self.latencies.append((now(), now() - began))

    async def open_loop(self, seconds, rate):
        start, due, running = now(), now(), set()
        while due < start + seconds:
            await asyncio.sleep(max(0, due - now()))
            task = asyncio.create_task(self.one(due))
            running.add(task)
            task.add_done_callback(running.discard)
            due += self.mix.rng.expovariate(rate)
        await asyncio.gather(*running)

    async def closed_loop(self, seconds, clients):
        end = now() + seconds

        async def client():
            while now() < end:
                await self.one()

        await asyncio.gather(*(client() for _ in range(clients)))

    def memory(self):
        return sum(status_bytes(pid, "VmRSS") for pid in self.pids)

    def files(self):
        return sum(open_files(pid) for pid in self.pids)


async def run(args):
    # Maps fill their memory for as long as they are kept; a small store is full after the warm-up.
    flags = ["--attention-memory", "8MiB", "--log", "error"]
    with Server(*flags, program=args.program) as server:
        port, pids, child = server.port, [server.pid], None
        if args.leak:
            child, port = leak_in_child(server.port)
            pids.append(child)
        run = Run(port, pids, args.images)
        try:
            return await scenario(args, run)
        finally:
            if child:
                os.kill(child, 9)
                os.waitpid(child, 0)


async def scenario(args, run):
    seconds = args.minutes * 60
    warm = min(120, seconds / 4)
    loads = {
        "idle": lambda s: asyncio.sleep(s),
        "saturation": lambda s: run.closed_loop(s, 32),
        "burst": lambda s: bursts(run, s, args.rate),
        "soak": lambda s: run.open_loop(s, args.rate),
    }
    load = loads[args.scenario]
    # The largest batches and images have to have been there once before growth means anything.
    await run.closed_loop(warm, 32)
    await asyncio.sleep(3)
    memory, files, began = run.memory(), run.files(), now()
    series = []

    async def watch():
        while True:
            series.append((now() - began, run.memory(), run.files()))
            harness.progress(
                f"{now() - began:5.0f} of {seconds - warm:.0f} s  {sum(run.answers.values())} answers  "
                f"{run.memory() / MIB:.0f} MiB  {run.files()} files"
            )
            await asyncio.sleep(5)

    watching = asyncio.create_task(watch())
    await load(seconds - warm)
    watching.cancel()
    await asyncio.sleep(3)
    measured = [(when, took) for when, took in run.latencies if when > began]
    span = now() - began
    p99 = lambda start, end: percentile([took for when, took in measured if start <= (when - began) / span < end], 0.99)
    first, last = p99(0, 1 / 3), p99(2 / 3, 1)
    # Whether it drifts, or something came in between.
    tenths = [p99(at / 10, (at + 1) / 10) for at in range(10)]
    growth, more_files = run.memory() - memory, run.files() - files
    failures = []
    if growth > GROWTH:
        failures.append(f"memory grew by {growth / MIB:.1f} MiB")
    if more_files > FILES:
        failures.append(f"{more_files} more files are open")
    judged = args.scenario == "soak" and len(measured) >= ENOUGH
    if judged and last > first * (1 + DRIFT):
        failures.append(f"p99 went from {first * 1000:.0f} to {last * 1000:.0f} ms")
    bad = {status: n for status, n in run.answers.items() if not (isinstance(status, int) and (status < 500 or status == 503))}
    if bad:
        failures.append(f"answers that should not be: {bad}")
    figures = {
        "minutes": args.minutes,
        "rate_per_s": args.rate,
        "answers": run.answers,
        "memory_mib": [round(memory / MIB, 1), round(run.memory() / MIB, 1)],
        "growth_mib": round(growth / MIB, 1),
        "files": [files, run.files()],
        "p99_ms_first_and_last_third": [round(first * 1000, 1), round(last * 1000, 1)],
        "p99_drift_judged": judged,
        "p99_ms_by_tenth": [round(one * 1000, 1) for one in tenths],
        "series_s_mib_files": [(round(at), round(bytes_ / MIB, 1), count) for at, bytes_, count in series],
    }
    return harness.report(args.scenario + (" with a leak" if args.leak else ""), figures, failures)


async def bursts(run, seconds, rate):
    """Ten seconds of quiet, then five seconds' worth at once."""
    end = now() + seconds
    while now() < end:
        await asyncio.sleep(min(10, max(0, end - now())))
        await asyncio.gather(*(run.one() for _ in range(int(5 * rate))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=["idle", "saturation", "burst", "soak"])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--leak", action="store_true")
    images.add_option(parser)
    parser.add_argument("--program")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
