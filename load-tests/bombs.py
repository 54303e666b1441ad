#!/usr/bin/env python3
"""Memory with 64 clients that send bombs: at most base + decode budget + 10 % of that budget.

    load-tests/bombs.py [--seconds 30] [--decode-memory-mib 256]

The bombs are images as large as the server lets in and as small as a file can be: flat PNGs of
several kinds. Uploads are counted within the same bound, since they are small.
"""

import argparse
import asyncio
import struct
import sys
import zlib

import harness
import images
from harness import Server, ask, metrics, now, status_bytes


def png(width, height, depth, color):
    """An image of zeros, in the fewest bytes."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    line = 1 + (width * samples * depth + 7) // 8
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(line)) for _ in range(height)) + packer.flush()

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    palette = chunk(b"PLTE", bytes(3)) if color == 3 else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + palette + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def bombs():
    kinds = {"grey 1 bit": (1, 0), "grey 8": (8, 0), "grey 16": (16, 0), "RGB 8": (8, 2), "palette": (8, 3), "RGBA 8": (8, 6), "RGBA 16": (16, 6)}
    return {name: png(4000, 5000, depth, color) for name, (depth, color) in kinds.items()}


async def run(args):
    budget = args.decode_memory_mib << 20
    files = bombs()
    flags = ["--decode-memory", f"{args.decode_memory_mib}MiB", "--request-timeout", "60s", "--log", "error"]
    with Server(*flags, program=args.program) as server:
        # Full batches and full connections belong to the base: they are there without bombs.
        for image in images.read(images.samples()):
            await asyncio.gather(*(ask(server.port, "POST", "/classify", image) for _ in range(args.clients)))
        base = status_bytes(server.pid, "VmHWM")
        statuses, end = {}, now() + args.seconds
        names = list(files)

        async def client(number):
            turn = number
            while now() < end:
                turn += 1
                status, _, _ = await ask(server.port, "POST", "/classify", files[names[turn % len(names)]])
                statuses[status] = statuses.get(status, 0) + 1

        async def watch():
            while True:
                peak = (status_bytes(server.pid, "VmHWM") - base) >> 20
                harness.progress(f"{sum(statuses.values())} answers, {peak} MiB above {base >> 20} MiB")
                await asyncio.sleep(1)

        watching = asyncio.create_task(watch())
        await asyncio.gather(*(client(number) for number in range(args.clients)))
        watching.cancel()
        peak = status_bytes(server.pid, "VmHWM")
        status, _, _ = await ask(server.port, "POST", "/classify", images.read(images.samples())[0])
    failures = []
    allowed = base + 1.1 * budget
    if peak > allowed:
        failures.append(f"the peak is {(peak - allowed) / 2**20:.0f} MiB above what is allowed")
    if status != 200:
        failures.append(f"the next good request got {status}")
    mib = lambda count: round(count / 2**20, 1)
    figures = {
        "clients": args.clients,
        "base_mib": mib(base),
        "budget_mib": args.decode_memory_mib,
        "peak_mib": mib(peak),
        "allowed_mib": mib(allowed),
        "file_bytes": {name: len(file) for name, file in files.items()},
        "answers": statuses,
    }
    return harness.report("bombs", figures, failures)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--decode-memory-mib", type=int, default=256)
    parser.add_argument("--program")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
