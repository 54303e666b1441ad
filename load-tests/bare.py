"""Loops without a server: what HTTP is compared with. Of the stock runtime, and of our own engine.

A bare loop is the best that is found over sessions × threads × batch size, on tensors of the images that
the server is sent. Which setting that is differs between models and machines, and two sessions of one
thread serve a small model far better than one of two.
"""

import itertools
import json
import os
import statistics
import subprocess
import threading

import numpy as np

from harness import ROOT, now
from reference import OnnxRuntime


def divisions(cores):
    """Sessions × threads that share the cores, by their names, and whether threads may spin."""
    found = {f"{sessions}×{cores // sessions}": (sessions, cores // sessions, True) for sessions in range(1, cores + 1) if cores % sessions == 0}
    return found | ({f"{cores}×{cores}, no spinning": (cores, cores, False)} if cores > 1 else {})


class Stock:
    """Every division of the cores and every batch size, in onnxruntime alone, in this process."""

    def __init__(self, model, images, cores, batches):
        self.model, self.cores, self.batches = model, cores, batches
        self.tensors = [model.prepare(file.read_bytes()) for file in images]
        self.sessions = {}

    def cells(self):
        return [(name, batch) for name, batch in itertools.product(divisions(self.cores), self.batches)]

    def run(self, cell, seconds):
        """Images a second of one cell."""
        name, batch = cell
        if name not in self.sessions:
            count, threads, spin = divisions(self.cores)[name]
            self.sessions[name] = [OnnxRuntime(self.model.graph, threads, spin=spin) for _ in range(count)]
        tensor = np.stack([self.tensors[at % len(self.tensors)] for at in range(batch)]).astype(np.float32)
        return throughput(self.sessions[name], tensor, seconds)


def throughput(sessions, tensor, seconds):
    """Images a second of all sessions together, each in a thread of its own."""
    # The server fetches the class token's attention only where it is asked for.
    outputs = [name for name in sessions[0].outputs if name != "class_attention"]
    for one in sessions:
        one.run(outputs, tensor)
    images, took, began = [0] * len(sessions), [0.0] * len(sessions), now()

    def loop(number):
        while now() < began + seconds:
            sessions[number].run(outputs, tensor)
            images[number] += len(tensor)
        took[number] = now() - began

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(len(sessions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(count / seconds for count, seconds in zip(images, took))


def bench(model, images=(), program=None, sessions=1, threads=None, batches=(1, 8), seconds=3, kernels="auto", compare=0):
    """The report of `patchlight bench`, a process that ends before this does."""
    program = program or os.environ.get("PATCHLIGHT", ROOT / "target/release/patchlight")
    command = [program, "bench", "--model", model, "--device", "cpu", "--kernels", kernels, "--sessions", sessions]
    command += ["--batch", ",".join(map(str, batches)), "--seconds", max(1, round(seconds)), "--compare", compare, "--json"]
    command += ["--threads", threads] if threads else []
    command += ["--images", *images] if images else []
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PATCHLIGHT")}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=clean)
    if done.returncode:
        raise SystemExit(f"bench failed:\n{done.stderr}")
    return json.loads(done.stdout)


def ours(model, images, cores, batches, seconds, program=None, kernels="auto"):
    """Images a second of our engine by division and batch size, and what an image takes before it."""
    rates, decode_ms = {}, []
    for name, (sessions, threads, spin) in divisions(cores).items():
        if not spin:
            continue
        found = bench(model, images, program, sessions, threads * sessions, batches, seconds, kernels)
        rates |= {f"{name}, batch {one['batch']}": one["images_per_s"] for one in found["batches"]}
        decode_ms.append(sum(found["decode"][part] for part in ("decode_ms", "preprocess_ms", "preview_ms")))
    return rates, statistics.median(decode_ms)


def with_decode(images_per_s, decode_ms, cores):
    """Images a second when the same cores also decode: the time of both, added."""
    return 1 / (1 / images_per_s + decode_ms / 1000 / cores)


def best(rounds):
    """The cell with the largest median, and that."""
    medians = {name: statistics.median(rates) for name, rates in rounds.items()}
    return max(medians.items(), key=lambda one: one[1])
