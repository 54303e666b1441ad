#!/usr/bin/env python3
"""One session of all threads beside several that share them: bare throughput, without a server.

    python load-tests/sessions.py models/demo/model.onnx [--seconds 3] [--rounds 2] [--batch 1 4 8]

What `--sessions` can gain on this machine. The third setting gives every session all threads, which
then sleep at once instead of spinning. All take turns in one process. Needs load-tests/requirements.txt.
"""

import argparse
import os
import threading
import time

import numpy as np
from reference import OnnxRuntime


def throughput(sessions, batch, seconds):
    """Images a second of all sessions together, each in a thread of its own."""
    tensor = np.random.default_rng(0).uniform(-1, 1, (batch, 3, 224, 224)).astype(np.float32)
    # The server fetches the class token's attention only where it is asked for.
    outputs = [name for name in sessions[0].outputs if name != "class_attention"]
    for one in sessions:
        one.run(outputs, tensor)
    images, began = [0] * len(sessions), time.monotonic()

    def loop(number):
        while time.monotonic() < began + seconds:
            sessions[number].run(outputs, tensor)
            images[number] += batch

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(len(sessions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(images) / (time.monotonic() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", help="an ONNX file that takes images of 224×224")
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 8])
    args = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    settings = {
        f"1 session, {cores} threads": [OnnxRuntime(args.graph, cores)],
        f"{cores} sessions, 1 thread each": [OnnxRuntime(args.graph, 1) for _ in range(cores)],
        f"{cores} sessions, {cores} threads each, no spinning": [OnnxRuntime(args.graph, cores, spin=False) for _ in range(cores)],
    }
    for number in range(args.rounds):
        print(f"\nround {number + 1}, images a second with batches of {', '.join(map(str, args.batch))}")
        for name, sessions in settings.items():
            print(f"{name:45}", *(f"{throughput(sessions, batch, args.seconds):8.2f}" for batch in args.batch), flush=True)


if __name__ == "__main__":
    main()
