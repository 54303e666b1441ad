#!/usr/bin/env python3
"""The same model behind patchlight and behind other servers, side by side.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install -r load-tests/requirements.txt
    cargo build --release --workspace
    /tmp/peers/bin/python load-tests/peers.py [--seconds 10] [--json FILE]

LitServe, BentoML, mosec and FastAPI serve the same ONNX file (load-tests/peers/) and give the same
answer: five labels and the map. Their answers to the samples are compared with ours before anything is
measured. Each is tuned over the same grid: sessions × threads, and the largest batch; the fastest
setting with many clients is what is then measured, in turn with ours, and is written down. `--graph`
gives the peers another file of the same model, such as torch's own export, which makes no map.

Each is tuned again with other arithmetic: in int8 with what `--int8-graph` names, and with OpenVINO in
bfloat16 (`--openvino`). The fastest peer of each is measured as well; `--no-float32` leaves float32 out.
Columns are compared row by row where the precision is the same, and ours in int8 with the best peer in
any precision: throughput, and the median of a single request.

Memory is that of all processes, pages shared among them counted once; start-up ends with the first
answer.
"""

import argparse
import base64
import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import images
from harness import ROOT, generate, now, shared_out_bytes

HERE = Path(__file__).resolve().parent / "peers"
DEMO = ROOT / "models/demo"
# Decoders round differently; the rest has to be the same.
SCORES_WITHIN, MAP_WITHIN = 0.02, 0.02


class Kind:
    """A server that can be started with settings."""

    def __init__(self, name, command, sends_json=False, sizes=(1, 8)):
        self.name, self.command, self.sends_json, self.sizes = name, command, sends_json, sizes

    def grid(self, cores):
        sessions = [(1, cores)] + ([(cores, 1)] if cores > 1 else [])
        return [dict(processes=p, threads=t, batch=b) for (p, t), b in itertools.product(sessions, self.sizes)]


PYTHON = sys.executable
# FastAPI has no batches of its own; BentoML refuses those of one.
PEERS = [
    Kind("FastAPI", lambda port: [PYTHON, "with_fastapi.py"], sizes=(1,)),
    Kind("LitServe", lambda port: [PYTHON, "with_litserve.py"], sends_json=True),
    Kind("mosec", lambda port: [PYTHON, "with_mosec.py"]),
    Kind("BentoML", lambda port: [PYTHON, "-m", "bentoml", "serve", "with_bentoml:Classifier", "--host", "127.0.0.1", "--port", str(port)], sends_json=True, sizes=(2, 8)),
]


class Running:
    """A server in a session of its own, so that all its processes can be counted and ended."""

    def __init__(self, command, env, log):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.began = now()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PATCHLIGHT_", "PEER_"))}
        env = clean | env | {"PEER_PORT": str(self.port), "BENTOML_DO_NOT_TRACK": "True", "PYTHONDONTWRITEBYTECODE": "1"}
        command = command(self.port)
        self.process = subprocess.Popen(command, env=env, cwd=HERE, stdout=log, stderr=log, start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        everyone = harness.tree(self.process.pid)
        self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
        # What is left of this server only: its own children.
        for pid in everyone:
            with contextlib.suppress(OSError):
                if os.getpgid(pid) == self.process.pid:
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def first_answer(self, body, limit=120):
        """Waits for the first answer; seconds since the start."""
        while now() - self.began < limit:
            if self.process.poll() is not None:
                raise SystemExit(f"it ended with status {self.process.returncode}")
            with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
                self.ask(body)
                return now() - self.began
            time.sleep(0.02)
        raise SystemExit(f"no answer within {limit} s")

    def ask(self, body, path="/classify", method="POST"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, (answer.status, text[:200])
            return json.loads(text)
        finally:
            connection.close()


class Setup:
    """One row to be: a server, its settings, the files it is sent."""

    def __init__(self, args, kind, setting, model, precision, graph=None, runtime="onnxruntime"):
        self.kind, self.setting, self.precision = kind, setting, precision
        self.json = kind.sends_json
        self.env = {f"PEER_{name.upper()}": str(value) for name, value in setting.items()}
        self.env |= {"PEER_MODEL": str(model), "PEER_RUNTIME": runtime} | ({"PEER_GRAPH": str(graph)} if graph else {})
        self.folder, self.images = args.folder, args.sent
        self.log = open(self.folder / f"{kind.name.replace(' ', '-')}.log", "ab")

    def start(self):
        return Running(self.kind.command, self.env, self.log)

    def body(self, image):
        encoded = image.read_bytes()
        return json.dumps({"image": base64.b64encode(encoded).decode()}).encode() if self.json else encoded

    def file(self, image):
        """What the load generator sends, as a file."""
        path = self.folder / (image.name + (".json" if self.json else ""))
        path.write_bytes(self.body(image))
        return path

    def load(self, running, seconds, clients):
        url = f"http://127.0.0.1:{running.port}/classify"
        return generate(url, [self.file(image) for image in self.images], seconds, warmup=seconds / 4, clients=clients)


def ours(args, model, precision):
    """As it comes, and with a session for each core."""
    for sessions in sorted({1, args.cores}):
        flags = ["--model", model, "--sessions", sessions, "--threads", args.cores, "--request-timeout", "120s", "--log", "error"]
        command = lambda port, flags=flags: [str(args.program), "serve", "--listen", f"127.0.0.1:{port}", *map(str, flags)]
        setting = dict(processes=sessions, threads=args.cores // sessions, batch=8) if sessions > 1 else {}
        name = f"patchlight {precision}" + (f", --sessions {sessions}" if sessions > 1 else "")
        yield Setup(args, Kind(name, command), setting, model, precision)


def answers(setup, images):
    """Best labels with scores, and the map, for each image."""
    found = []
    with setup.start() as running:
        running.first_answer(setup.body(images[0]))
        for image in images:
            answer = running.ask(setup.body(image))
            if "attention" in answer:
                kept = answer["attention"]
                answer["map"] = kept and running.ask(None, kept["url"] + "?format=json", "GET")["values"]
            found.append(({one["class_id"]: one["score"] for one in answer["predictions"]}, answer["map"]))
    return found


def compare(name, reference, others):
    """Why these are not the same answers; nothing if they are."""
    faults = []
    for number, ((scores, drawn), (their_scores, their_map)) in enumerate(zip(reference, others)):
        best, theirs = (max(one, key=one.get) for one in (scores, their_scores))
        if best != theirs and abs(scores[best] - scores.get(theirs, 0)) > SCORES_WITHIN:
            faults.append(f"{name}, image {number}: class {theirs} instead of {best}")
        worst = max(abs(scores[one] - their_scores[one]) for one in scores.keys() & their_scores.keys())
        if worst > SCORES_WITHIN:
            faults.append(f"{name}, image {number}: scores differ by {worst:.3f}")
        if drawn and their_map:
            off = sum(abs(a - b) for a, b in zip(drawn, their_map)) / sum(drawn)
            if off > MAP_WITHIN:
                faults.append(f"{name}, image {number}: maps differ by {off:.3f} of their mass")
    return faults


def tune(args, kind, make):
    """The fastest setting of the grid."""
    results = []
    for setting in kind.grid(args.cores):
        harness.progress(f"{kind.name}: {setting}")
        setup = make(setting)
        with setup.start() as running:
            running.first_answer(setup.body(setup.images[0]))
            report = setup.load(running, args.tune_seconds, args.clients)
        results.append((report["throughput"], setting))
    return max(results, key=lambda one: one[0])[1], results


def measure(setup, args):
    """Everything that a row has, from one life of the server."""
    with setup.start() as running:
        start = running.first_answer(setup.body(setup.images[0]))
        alone = setup.load(running, args.seconds / 2, 1)
        crowd = setup.load(running, args.seconds, args.clients)
        memory = shared_out_bytes(running.process.pid)
    failed = {name: count for name, count in crowd["outcomes"].items() if name != "200"}
    return {
        "per_s": crowd["throughput"],
        "p50_ms": crowd["latency_ms"]["p50"],
        "p99_ms": crowd["latency_ms"]["p99"],
        "alone_per_s": alone["throughput"],
        "alone_p50_ms": alone["latency_ms"]["p50"],
        "alone_p99_ms": alone["latency_ms"]["p99"],
        "memory_mib": memory / 2**20,
        "start_s": start,
        "failed": failed,
    }


def other_arithmetic(args):
    """What else the peers can be made to compute with: name, precision, graph and runtime."""
    found = [(args.int8_name, "int8", args.int8_graph, "onnxruntime")] if args.int8_graph else []
    return found + ([("OpenVINO", "bf16", args.graph, "openvino-bf16")] if args.openvino else [])


def tune_all(args, kinds):
    """Peers to be measured, each in its fastest setting, and what every setting of every peer did."""
    make = lambda kind, *how: lambda setting: Setup(args, kind, setting, args.model, *how)
    setups, tuned = {}, {}
    for kind in [] if args.no_float32 else kinds:
        best, tuned[kind.name] = tune(args, kind, make(kind, "float32", args.graph))
        setups[kind.name] = make(kind, "float32", args.graph)(best)
    for arithmetic, *how in other_arithmetic(args):
        found = {}
        for kind in kinds:
            name = f"{kind.name}, {arithmetic}"
            best, tuned[name] = tune(args, kind, make(kind, *how))
            found[name] = (max(rate for rate, _ in tuned[name]), make(kind, *how)(best))
        fastest = max(found, key=lambda name: found[name][0])
        setups[fastest] = found[fastest][1]
    return setups, tuned


def run(args):
    samples = [ROOT / "models/samples" / name for name in ("penguin.jpg", "guitar.jpg", "dog.jpg", "crab.jpg")]
    args.sent = images.small(args.images)
    graph_name = args.graph_name if args.graph else "the same file"
    kinds = [kind for kind in PEERS if not args.only or kind.name.lower() in args.only]
    with tempfile.TemporaryDirectory() as folder:
        if not args.model:
            args.model, args.int8 = Path(folder) / "demo-float32", args.int8 or DEMO
            command = [args.program, "import", DEMO / "checkpoint", "--out", args.model]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        if args.logs:
            args.logs.mkdir(parents=True, exist_ok=True)
        args.folder = args.logs or Path(folder)
        setups = {}
        own = [(args.int8, "int8")] if args.no_float32 else [(args.model, "float32"), (args.int8, "int8")]
        for model, precision in own:
            setups |= {setup.kind.name: setup for setup in ours(args, model, precision)} if model else {}
        # The same weights in float32, whatever is measured.
        reference = answers(next(iter(ours(args, args.model, "float32"))), samples)
        failures = []
        for kind in kinds:
            harness.progress(f"{kind.name}: are its answers ours?")
            setup = Setup(args, kind, kind.grid(args.cores)[-1], args.model, "float32", args.graph)
            failures += compare(kind.name, reference, answers(setup, samples))
        if failures:
            return harness.report("peers", {}, failures)
        peers, tuned = tune_all(args, kinds)
        setups |= peers
        found = {name: [] for name in setups}
        for number in range(args.rounds):
            for name in list(setups)[number % len(setups) :] + list(setups)[: number % len(setups)]:
                harness.progress(f"round {number + 1} of {args.rounds}: {name}")
                found[name].append(measure(setups[name], args))
    rows = {}
    for name, rounds in found.items():
        numbers = {key: statistics.median(one[key] for one in rounds) for key in rounds[0] if key != "failed"}
        failed = sum(sum(one["failed"].values()) for one in rounds)
        rows[name] = {"precision": setups[name].precision, "setting": setups[name].setting, **numbers, "failed": failed, "rounds": rounds}
    beside = over_peers(rows)
    show(args, rows)
    harness.table(["over the best peer", "throughput", "p50 of a single request"], [[own, *(f"{one['ratio']:.2f} ({one['peer']})" for one in over.values())] for own, over in beside.items()])
    figures = {
        "machine": harness.machine(),
        "model": str(args.model),
        "images": args.images,
        "peers_serve": graph_name,
        "clients": args.clients,
        "seconds": args.seconds,
        "rows": rows,
        "over_best_peer": beside,
        "grid": {name: [{"per_s": rate, **setting} for rate, setting in results] for name, results in tuned.items()},
    }
    return harness.report("peers", figures, behind(rows), args.json)


def over_peers(rows):
    """Each of ours over the best peer in any precision, figure by figure; more is better for all of them."""
    peers = [name for name in rows if not name.startswith("patchlight")]
    found = {}
    for own in [name for name in rows if name not in peers] if peers else []:
        for what, column, better in (("throughput", "per_s", max), ("p50 of a single request", "alone_p50_ms", min)):
            peer = better(peers, key=lambda name: rows[name][column])
            ratio = rows[own][column] / rows[peer][column]
            found.setdefault(own, {})[what] = {"peer": peer, "ratio": ratio if better is max else 1 / ratio}
    return found


def show(args, rows):
    alone, crowd = "1 client", f"{args.clients} clients"
    head = ["", "precision", "setting", f"{crowd}: throughput", "p50", "p99", f"{alone}: p50", "p99", "memory", "start", "failed"]
    lines = []
    for name, row in rows.items():
        setting = ", ".join(f"{key} {value}" for key, value in row["setting"].items()) or "as it comes"
        lines.append(
            [name, row["precision"], setting, f"{row['per_s']:.2f}/s", f"{row['p50_ms']:.0f} ms", f"{row['p99_ms']:.0f} ms", f"{row['alone_p50_ms']:.1f} ms",
             f"{row['alone_p99_ms']:.1f} ms", f"{row['memory_mib']:.0f} MiB", f"{row['start_s']:.2f} s", row["failed"]]
        )  # fmt: skip
    harness.table(head, lines)


def behind(rows):
    """Columns in which a peer is ahead of a setting of ours with the same precision."""
    failures = []
    for (own, ours), (name, row) in itertools.product(rows.items(), rows.items()):
        if not own.startswith("patchlight") or name.startswith("patchlight") or row["precision"] != ours["precision"]:
            continue
        for column in ("per_s", "p50_ms", "p99_ms", "alone_p50_ms", "alone_p99_ms", "memory_mib", "start_s"):
            ahead = row[column] > ours[column] if column == "per_s" else row[column] < ours[column]
            if ahead:
                failures.append(f"{name} is ahead of {own} in {column}: {row[column]:.3g} against {ours[column]:.3g}")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="float32 model directory [default: the demo's checkpoint, imported]")
    parser.add_argument("--int8", type=Path, help="the same model in int8, for a row of ours [default for the demo: as it ships]")
    parser.add_argument("--graph", type=Path, help="what the peers serve instead of the model's own file")
    parser.add_argument("--graph-name", default="another export", help="what that is, for the report")
    parser.add_argument("--int8-graph", type=Path, help="an int8 graph, for a row of the peer that is fastest with it")
    parser.add_argument("--int8-name", default="quantize_dynamic", help="what that is, for the report")
    parser.add_argument("--no-float32", action="store_true", help="other arithmetic alone")
    parser.add_argument("--openvino", action="store_true", help="another such row, with OpenVINO in bfloat16")
    parser.add_argument("--only", nargs="+", type=str.lower, help="some of the peers")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--tune-seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--logs", type=Path, help="folder for what the servers say")
    images.add_option(parser)
    parser.add_argument("--json")
    parser.add_argument("--program", type=Path, default=os.environ.get("PATCHLIGHT", ROOT / "target/release/patchlight"))
    args = parser.parse_args()
    for name in ("model", "int8", "graph", "int8_graph", "program", "logs"):
        if getattr(args, name):
            setattr(args, name, Path(getattr(args, name)).resolve())
    sys.exit(run(args))


if __name__ == "__main__":
    main()
