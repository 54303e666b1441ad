#!/usr/bin/env python3
"""What the server adds to bare loops: throughput, a single request, decoding, start and memory.

    python3 -m venv /tmp/load && /tmp/load/bin/pip install -r load-tests/requirements.txt
    cargo build --release --workspace
    /tmp/load/bin/python load-tests/compare.py [--model DIR] [--seconds 8] [--rounds 3] [--json FILE]

Bare is a loop on tensors that are there already: of the stock runtime in this process, and of our own
engine (`patchlight bench`); of each the best over sessions × threads × batch size counts. They and the
server take turns in every round, and ratios are of the medians over the rounds. HTTP is also compared with
our own loop when the time that decoding takes on the same cores is added. The load generator runs on these
cores as well. Images are photographs unless `--images drawn` is given.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import bare
import harness
import images
from harness import ROOT, Server, generate, now
from reference import Model

MIB = 2**20
DEMO = ROOT / "models/demo"
# The one server that is measured here, among those of `throughput`.
SERVER = "as it comes"


def throughput(servers, model, files, args):
    """Images a second: the stock runtime and our engine alone, and HTTP to each server, in turns."""
    stock = bare.Stock(model, files, args.threads, args.batch)
    found = {"stock": {f"{name}, batch {batch}": [] for name, batch in stock.cells()}, "ours": {}, "HTTP": {name: [] for name in servers}}
    busy, answers, sizes, decodes = ({name: 0 for name in servers}, {name: 0 for name in servers}, {name: [] for name in servers}, [])
    for number in range(args.rounds):
        say = lambda what: harness.progress(f"round {number + 1} of {args.rounds}: {what}")
        for name, batch in stock.cells():
            say(f"stock runtime, {name}, batch {batch}")
            found["stock"][f"{name}, batch {batch}"].append(stock.run((name, batch), args.seconds / 4))
        say("our engine")
        rates, decode_ms = bare.ours(args.model, files, args.threads, args.batch, args.seconds / 4, args.program)
        decodes.append(decode_ms)
        for name, rate in rates.items():
            found["ours"].setdefault(name, []).append(rate)
        for name, server in servers.items():
            say(f"HTTP, {args.clients} clients, {name}")
            before = harness.processor_seconds(server.pid)
            report = generate(f"http://127.0.0.1:{server.port}/classify", files, args.seconds, warmup=0, clients=args.clients)
            busy[name] += harness.processor_seconds(server.pid) - before
            answers[name] += report["latency_ms"]["count"]
            found["HTTP"][name].append(report["throughput"])
            sizes[name].append(report["batch_sizes"] and report["batch_sizes"]["mean"])
    (stock_name, stock_rate), (own_name, own_rate) = bare.best(found["stock"]), bare.best(found["ours"])
    decode_ms = statistics.median(decodes)
    both = bare.with_decode(own_rate, decode_ms, args.threads)
    rates = {name: statistics.median(rounds) for name, rounds in found["HTTP"].items()}
    return {
        "best_stock": {"cell": stock_name, "per_s": stock_rate},
        "best_ours": {"cell": own_name, "per_s": own_rate, "decode_ms": decode_ms, "with_decode_per_s": both},
        "HTTP_per_s": rates,
        "HTTP_over_best_stock": {name: rate / stock_rate for name, rate in rates.items()},
        "HTTP_over_ours_with_decode": {name: rate / both for name, rate in rates.items()},
        "images_a_batch": sizes,
        "processor_ms_a_request": {name: busy[name] / answers[name] * 1000 for name in servers},
        "rounds": found,
    }


def instrumentation(found, args):
    """What metrics, spans and the log line take of a request's processor time."""
    if not args.instrumentation.exists():
        return {"not measured": f"{args.instrumentation} is not built: cargo build --release --example instrumentation"}
    ran = subprocess.run([args.instrumentation], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    each = int(ran.stdout) / 1e6
    return {"ms_a_request": each, "share": each / found["throughput"]["processor_ms_a_request"][SERVER]}


class Client:
    """One connection that is kept open, without a library whose own time would be counted."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def classify(self, body):
        """Seconds until the whole answer was there, and its own account in milliseconds."""
        request, answer, length = harness.head("POST", "/classify", len(body)) + body, b"", None
        began = now()
        self.socket.sendall(request)
        while length is None or len(answer) < length:
            answer += self.socket.recv(1 << 16) or sys.exit("the server closed the connection")
            if length is None and (end := answer.find(b"\r\n\r\n")) >= 0:
                length = end + 4 + int(re.search(rb"content-length: (\d+)", answer[:end])[1])
        took = now() - began
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        return took, json.loads(answer[end + 4 :])["timing_ms"]


def single(port, model, files, args):
    """One request on an idle server beside one run of the bare session, taking turns, with pauses."""
    client, bodies = Client(port), images.read(files)
    tensors = [model.prepare(body)[None] for body in bodies]
    took, prepared, alone, ran = [], [], [], []
    for number in range(args.singles + 2):
        harness.progress(f"single request {number + 1}")
        time.sleep(args.pause)
        seconds, timing = client.classify(bodies[number % len(bodies)])
        time.sleep(args.pause)
        began = now()
        model.run(tensors[number % len(tensors)])
        if number >= 2:
            alone.append((now() - began) * 1000)
            took.append(seconds * 1000)
            prepared.append(timing["decode"] + timing["preprocess"])
            ran.append(timing["inference"])
    mid = {
        "request_ms": statistics.median(took),
        "decode_and_preprocess_ms": statistics.median(prepared),
        "inference_ms": statistics.median(ran),
        "stock_run_ms": statistics.median(alone),
    }
    return mid | {"added_ms": mid["request_ms"] - mid["decode_and_preprocess_ms"] - mid["inference_ms"]}


def decoding(port, model, args):
    """Bytes to tensor, the server's own clock beside Pillow's, on one core each."""
    client, rows = Client(port), {}
    sets = {"500×375": images.small(args.images)} | {size: [file] for size, file in images.large(args.images).items()}
    for name, files in sets.items():
        ours, parts, pillow, bodies = [], [], [], images.read(files)
        for number in range(args.decodes + len(bodies)):
            harness.progress(f"decoding {name}, {number + 1}")
            body = bodies[number % len(bodies)]
            time.sleep(args.pause / 2)
            _, timing = client.classify(body)
            # The preview is still being made when the answer is here.
            time.sleep(args.pause / 2)
            began = now()
            model.prepare(body)
            if number >= len(bodies):
                pillow.append((now() - began) * 1000)
                ours.append(timing["decode"] + timing["preprocess"])
                parts.append((timing["decode"], timing["preprocess"]))
        rows[name] = {
            "bytes": round(statistics.mean(map(len, bodies))),
            "ours_ms": statistics.median(ours),
            "decode_ms": statistics.median(decode for decode, _ in parts),
            "preprocess_ms": statistics.median(rest for _, rest in parts),
            "pillow_ms": statistics.median(pillow),
        }
        rows[name]["ours_over_pillow"] = rows[name]["ours_ms"] / rows[name]["pillow_ms"]
    return rows


def run(args):
    model = Model(args.model, args.threads)
    weights = model.weight_bytes
    flags = list(map(str, ["--model", args.model, "--threads", args.threads, "--request-timeout", "120s"]))
    serve = lambda: Server(*flags, program=args.program, log=subprocess.DEVNULL)
    starts = []
    for number in range(args.starts):
        harness.progress(f"start {number + 1} of {args.starts}")
        with serve() as server:
            starts.append(server.ready_s)
    with serve() as server:
        at_rest = harness.shared_out_bytes(server.pid)
        files = images.small(args.images)
        found = {
            "throughput": throughput({SERVER: server}, model, files, args),
            "single": single(server.port, model, files, args),
            "decoding": decoding(server.port, model, args),
        }
        peak = harness.status_bytes(server.pid, "VmHWM")
    found["instrumentation"] = instrumentation(found, args)
    found["start"] = {"ready_s": statistics.median(starts), "all_s": starts}
    found["memory"] = {
        "weights_mib": weights / MIB,
        "at_rest_mib": at_rest / MIB,
        "peak_mib": peak / MIB,
        "peak_over_weights_mib": (peak - weights) / MIB,
    }
    failures = show(args, found)
    figures = {"machine": harness.machine(), "model": str(args.model), "precision": model.precision, "threads": args.threads, "images": args.images}
    return harness.report("compare", figures | found, failures, args.json)


def show(args, found):
    """Prints the tables; what misses its target."""
    show_throughput(found["throughput"])
    one = found["single"]
    harness.table(list(one), [[f"{value:.2f}" for value in one.values()]])
    decodes = found["decoding"]
    rows = [[name, f"{row['ours_ms']:.2f} ms", f"{row['pillow_ms']:.2f} ms", f"{row['ours_over_pillow']:.2f}"] for name, row in decodes.items()]
    harness.table(["JPEG to tensor", "here", "Pillow", "ratio"], rows)
    memory, start = found["memory"], found["start"]["ready_s"]
    harness.table(["ready after", *memory], [[f"{start:.2f} s", *(f"{value:.0f}" for value in memory.values())]])

    watching = found["instrumentation"].get("share", 0)
    print(f"\nmetrics, spans and log line: {watching:.4f} of the processor time of a request")
    within = found["throughput"]["HTTP_over_ours_with_decode"][SERVER]
    (small, *_), (*_, large) = list(decodes.items()), list(decodes.items())
    targets = [
        ("HTTP over our bare loop, decoding added", within >= 0.9, f"{within:.3f}"),
        ("a single request", one["added_ms"] <= 2, f"{one['added_ms']:.1f} ms added"),
        (small[0], small[1]["ours_ms"] <= 1.5, f"{small[1]['ours_ms']:.1f} ms"),
        (large[0], large[1]["ours_ms"] <= 25, f"{large[1]['ours_ms']:.1f} ms"),
        (large[0], large[1]["ours_over_pillow"] <= 0.2, f"{large[1]['ours_over_pillow']:.2f} of Pillow's time"),
        ("start", start <= (4 if memory["weights_mib"] > 200 else 0.5), f"{start:.2f} s"),
        ("metrics and tracing", watching <= 0.01, f"{watching:.2%} of a request's processor time"),
        ("memory", memory["peak_over_weights_mib"] <= 300, f"{memory['peak_over_weights_mib']:.0f} MiB above the weights"),
    ]
    return [f"{what}: {figure}" for what, met, figure in targets if not met]


def show_throughput(found):
    """Every cell, the best of each, and HTTP beside them."""
    cells = {f"{who}, {cell}": statistics.median(rates) for who in ("stock", "ours") for cell, rates in found["rounds"][who].items()}
    rows = [[name, f"{rate:.2f}/s"] for name, rate in cells.items()]
    rows += [[f"best of {who}: {found[key]['cell']}", f"{found[key]['per_s']:.2f}/s"] for who, key in (("stock", "best_stock"), ("ours", "best_ours"))]
    rows.append([f"ours, decoding added ({found['best_ours']['decode_ms']:.2f} ms of a core)", f"{found['best_ours']['with_decode_per_s']:.2f}/s"])
    for name, rate in found["HTTP_per_s"].items():
        rows.append([f"HTTP, {name}", f"{rate:.2f}/s"])
        rows.append([f"HTTP, {name}, over the best of stock", f"{found['HTTP_over_best_stock'][name]:.3f}"])
        rows.append([f"HTTP, {name}, over ours with decoding", f"{found['HTTP_over_ours_with_decode'][name]:.3f}"])
    harness.table(["", "images/s"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEMO, help="directory [default: the demo]")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 8], help="batch sizes of the bare loops")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement over HTTP")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--singles", type=int, default=40)
    parser.add_argument("--pause", type=float, default=0.1)
    parser.add_argument("--decodes", type=int, default=15)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--instrumentation", type=Path, default=ROOT / "target/release/examples/instrumentation")
    images.add_option(parser)
    parser.add_argument("--json")
    parser.add_argument("--program")
    sys.exit(run(parser.parse_args()))


if __name__ == "__main__":
    main()
