#!/usr/bin/env python3
"""What the server adds to the bare session: throughput, a single request, decoding, start and memory.

    python3 -m venv /tmp/compare && /tmp/compare/bin/pip install -r load-tests/requirements.txt
    cargo build --release --workspace
    /tmp/compare/bin/python load-tests/compare.py [--model DIR] [--seconds 10] [--rounds 3] [--json FILE]

The bare session runs the model's own graph in this process (onnxruntime, as many threads as the
server), on tensors that are there already; its best batch size counts. It and the server take turns in
every round, and ratios are of the medians over the rounds. The load generator runs on the same cores.
"""

import argparse
import io
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import harness
from harness import ROOT, Server, generate, now
from reference import Model

MIB = 2**20
DEMO = ROOT / "models/demo"
IMAGE = ROOT / "models/samples/penguin.jpg"  # 500×375
# Large models have to reach this share of the bare session, small ones that (whose decoding weighs more).
SHARES = {"large": 0.97, "small": 0.85}


def throughput(server, model, args):
    """Images a second: the bare session at each batch size, and HTTP."""
    url = f"http://127.0.0.1:{server.port}/classify"
    found = {f"bare session, batch {size}": [] for size in args.batch} | {"HTTP": []}
    batches, busy, answers = [], 0, 0
    for number in range(args.rounds):
        for size in args.batch:
            harness.progress(f"round {number + 1} of {args.rounds}: bare session, batch {size}")
            found[f"bare session, batch {size}"].append(model.loop(size, args.seconds / 2))
        harness.progress(f"round {number + 1} of {args.rounds}: HTTP, {args.clients} clients")
        before = harness.processor_seconds(server.pid)
        report = generate(url, [IMAGE], args.seconds, warmup=0, clients=args.clients)
        busy += harness.processor_seconds(server.pid) - before
        answers += report["latency_ms"]["count"]
        found["HTTP"].append(report["throughput"])
        batches.append(report["batch_sizes"] and report["batch_sizes"]["mean"])
    rates = {name: statistics.median(rounds) for name, rounds in found.items()}
    bare = max(rate for name, rate in rates.items() if name != "HTTP")
    return {
        "per_s": rates,
        "rounds": found,
        "HTTP_over_bare": rates["HTTP"] / bare,
        "pictures_a_batch": batches,
        "processor_ms_a_request": busy / answers * 1000,
    }


def instrumentation(found, args):
    """What metrics, spans and the log line take of a request's processor time."""
    if not args.instrumentation.exists():
        return {"not measured": f"{args.instrumentation} is not built: cargo build --release --example instrumentation"}
    ran = subprocess.run([args.instrumentation], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    each = int(ran.stdout) / 1e6
    return {"ms_a_request": each, "share": each / found["throughput"]["processor_ms_a_request"]}


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


def single(port, model, args):
    """One request on an idle server beside one run of the bare session, taking turns, with pauses."""
    client, body = Client(port), IMAGE.read_bytes()
    tensor = model.prepare(body)[None]
    took, prepared, bare, ran = [], [], [], []
    for number in range(args.singles + 2):
        harness.progress(f"single request {number + 1}")
        time.sleep(args.pause)
        seconds, timing = client.classify(body)
        time.sleep(args.pause)
        began = now()
        model.run(tensor)
        if number >= 2:
            bare.append((now() - began) * 1000)
            took.append(seconds * 1000)
            prepared.append(timing["decode"] + timing["preprocess"])
            ran.append(timing["inference"])
    mid = {
        "request_ms": statistics.median(took),
        "decode_and_preprocess_ms": statistics.median(prepared),
        "inference_ms": statistics.median(ran),
        "bare_run_ms": statistics.median(bare),
    }
    return mid | {"added_ms": mid["request_ms"] - mid["decode_and_preprocess_ms"] - mid["bare_run_ms"]}


def large_image():
    """The samples as a sheet of 4000×3000: a JPEG as large as a camera's."""
    from PIL import Image

    sheet = Image.new("RGB", (4000, 3000))
    files = [file for file in sorted((ROOT / "models/samples").iterdir()) if file.suffix == ".jpg"]
    for at in range(12):
        tile = Image.open(files[at % len(files)]).convert("RGB").resize((1000, 1000), Image.Resampling.BICUBIC)
        sheet.paste(tile, (at % 4 * 1000, at // 4 * 1000))
    encoded = io.BytesIO()
    sheet.save(encoded, "JPEG", quality=90)
    return encoded.getvalue()


def decoding(port, model, args):
    """Bytes to tensor, the server's own clock beside Pillow's, on one core each."""
    client, rows = Client(port), {}
    for name, body in (("500×375", IMAGE.read_bytes()), ("4000×3000", large_image())):
        ours, parts, pillow = [], [], []
        for number in range(args.decodes + 1):
            harness.progress(f"decoding {name}, {number + 1}")
            time.sleep(args.pause / 2)
            _, timing = client.classify(body)
            # The copy for the overlay is still being made when the answer is here.
            time.sleep(args.pause / 2)
            began = now()
            model.prepare(body)
            if number:
                pillow.append((now() - began) * 1000)
                ours.append(timing["decode"] + timing["preprocess"])
                parts.append((timing["decode"], timing["preprocess"]))
        rows[name] = {
            "bytes": len(body),
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
        found = {
            "throughput": throughput(server, model, args),
            "single": single(server.port, model, args),
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
    figures = {"machine": harness.machine(), "model": str(args.model), "precision": model.precision, "threads": args.threads}
    return harness.report("compare", figures | found, failures, args.json)


def show(args, found):
    """Prints the tables; what misses its target."""
    rates, ratio = found["throughput"]["per_s"], found["throughput"]["HTTP_over_bare"]
    harness.table(["", "images/s"], [[name, f"{rate:.2f}"] for name, rate in rates.items()] + [["HTTP over bare", f"{ratio:.3f}"]])
    one = found["single"]
    harness.table(list(one), [[f"{value:.2f}" for value in one.values()]])
    decodes = found["decoding"]
    rows = [[name, f"{row['ours_ms']:.2f} ms", f"{row['pillow_ms']:.2f} ms", f"{row['ours_over_pillow']:.2f}"] for name, row in decodes.items()]
    harness.table(["JPEG to tensor", "here", "Pillow", "ratio"], rows)
    memory, start = found["memory"], found["start"]["ready_s"]
    harness.table(["ready after", *memory], [[f"{start:.2f} s", *(f"{value:.0f}" for value in memory.values())]])

    large = memory["weights_mib"] > 200
    watching = found["instrumentation"].get("share", 0)
    print(f"\nmetrics, spans and log line: {watching:.4f} of the processor time of a request")
    targets = [
        ("HTTP over bare", ratio >= SHARES["large" if large else "small"], f"{ratio:.3f}"),
        ("a single request", one["added_ms"] <= 2, f"{one['added_ms']:.1f} ms added"),
        ("500×375", decodes["500×375"]["ours_ms"] <= 1.5, f"{decodes['500×375']['ours_ms']:.1f} ms"),
        ("4000×3000", decodes["4000×3000"]["ours_ms"] <= 25, f"{decodes['4000×3000']['ours_ms']:.1f} ms"),
        ("4000×3000", decodes["4000×3000"]["ours_over_pillow"] <= 0.2, f"{decodes['4000×3000']['ours_over_pillow']:.2f} of Pillow's time"),
        ("start", start <= (4 if large else 0.5), f"{start:.2f} s"),
        ("metrics and tracing", watching <= 0.01, f"{watching:.2%} of a request's processor time"),
        ("memory", memory["peak_over_weights_mib"] <= 300, f"{memory['peak_over_weights_mib']:.0f} MiB above the weights"),
    ]
    return [f"{what}: {figure}" for what, met, figure in targets if not met]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEMO, help="directory [default: the demo]")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="batch sizes of the bare session")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement over HTTP")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--singles", type=int, default=40)
    parser.add_argument("--pause", type=float, default=0.1)
    parser.add_argument("--decodes", type=int, default=15)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--instrumentation", type=Path, default=ROOT / "target/release/examples/instrumentation")
    parser.add_argument("--json")
    parser.add_argument("--program")
    sys.exit(run(parser.parse_args()))


if __name__ == "__main__":
    main()
