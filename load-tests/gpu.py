#!/usr/bin/env python3
"""ViT-L/16 in float16 on an NVIDIA card: right answers, the model alone beside PyTorch, and over HTTP.

    load-tests/gpu.py --json report.json          # ends within six minutes; needs torch and timm for the peers
    load-tests/gpu.py --smoke                     # within a minute and a half: does everything run, and rightly?

The program (`cargo build --release --features cuda`, or --program) is compared with the CPU first. Then the
model alone is timed at batch 1, 8, 64 and 128 with inputs and outputs in the host's memory: with our kernels,
one and two batches at a time, with launches of small batches recorded and not, without maps, and with the
runtime's operators alone; beside PyTorch, whose inputs are on the card: compiled without a map, and compiled
with a rollout from plain attention matrices. Then come 1, 64 and 256 clients over HTTP with photographs of
500×375 pixels, the generator on the same cores. Last, a card that is nearly full: with room for the model and
little else a server has to answer a crowd without one failure, in smaller batches; and where there are two cards,
both behind one queue. Where nothing can be downloaded, make them before with images.py,
and carry target/photographs. A part that fails is said and left out; the others run.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
import traceback
import urllib.request
from pathlib import Path

import images
from harness import ROOT, Server, status_bytes

BEGAN = time.monotonic()
PARTS = ("ours", "two", "no-replay", "logits", "stock", "torch", "http", "memory", "cards")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/patchlight")
    parser.add_argument("--load", type=Path, default=ROOT / "target/release/patchlight-load")
    parser.add_argument("--model", type=Path, help="a model directory in float16 [default: random weights]")
    parser.add_argument("--seconds", type=int, help="for each batch size and load [default: 2; 1 with --smoke]")
    parser.add_argument("--skip", nargs="*", default=[], choices=PARTS)
    parser.add_argument("--smoke", action="store_true", help="few sizes, one second each, no PyTorch")
    parser.add_argument("--within", type=int, help="no part begins after so many seconds [default: 300; 80]")
    images.add_option(parser)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.seconds = args.seconds or (1 if args.smoke else 2)
    args.within = args.within or (80 if args.smoke else 300)
    if args.smoke:
        args.skip = [*args.skip, "torch", "no-replay", "logits", "memory", "cards"]
    found = {"card": card(), "processor": processor()}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model = args.model or imported(args, folder)
        large = (1, 64) if args.smoke else (1, 8, 64, 128)
        parts = {
            "ours": lambda: bench(args, model, "--compare", "2" if args.smoke else "4", batches=large),
            "two": lambda: bench(args, model, "--sessions", "2", batches=large),
            "no-replay": lambda: bench(args, model, "--no-replay", batches=(1, 8)),
            "logits": lambda: bench(args, model, "--no-maps", "--sessions", "2", batches=(1, 64)),
            "http": lambda: over_http(args, model, images.small(args.images), folder),
            "torch": lambda: torch_peers(args),
            "stock": lambda: bench(args, model, "--kernels", "stock", batches=(64,) if args.smoke else (1, 64)),
            "memory": lambda: out_of_memory(args, model, images.small(args.images), folder),
            "cards": lambda: two_cards(args, model, images.small(args.images), folder),
        }
        for name, part in parts.items():
            if name in args.skip:
                continue
            if time.monotonic() - BEGAN > args.within:
                say(f"{name}: left out, for {args.within} s are over")
                continue
            say(name)
            try:
                found[name] = part()
            except (Exception, SystemExit) as error:
                found[name] = {"failed": f"{error}"[-2000:]}
                say(f"{name} FAILED: {error}")
                traceback.print_exc()
            write(args, found)
    found["seconds"] = time.monotonic() - BEGAN
    write(args, found)
    table(found)
    if any("failed" in part for part in found.values() if isinstance(part, dict)):
        raise SystemExit(1)


def say(what):
    print(f"[{time.monotonic() - BEGAN:6.1f} s] {what}", flush=True)


def card():
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()


def processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{len(os.sched_getaffinity(0))} cores of {name}"


def imported(args, folder):
    out = folder / "vit-l"
    began = time.monotonic()
    command = [args.program, "import", "--arch", "vit-l-16", "--random-weights", "--precision", "fp16", "--out", out]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"import failed:\n{done.stderr}")
    say(f"imported in {time.monotonic() - began:.1f} s")
    return out


def bench(args, model, *flags, batches):
    command = [args.program, "bench", "--model", model, "--device", "cuda", "--json", *flags]
    command += ["--seconds", str(args.seconds), "--batch", ",".join(map(str, batches))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise SystemExit(f"bench failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    report = json.loads(done.stdout)
    # What the program warns of belongs beside its figures.
    report["warnings"] = [line for line in done.stderr.splitlines() if "WARN" in line or "kernels" in line]
    print(json.dumps(report), flush=True)
    return report


def torch_peers(args):
    """Images a second of PyTorch on the same card, inputs and outputs on the card."""
    import timm
    import torch

    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    net = timm.create_model("vit_large_patch16_224", pretrained=False, num_classes=1000).cuda().half().eval()

    def rollout(x):
        x = net.patch_embed(x)
        x = torch.cat([net.cls_token.expand(x.shape[0], -1, -1), x], 1) + net.pos_embed
        means = []
        for block in net.blocks:
            n = block.norm1(x)
            batch, tokens, width = n.shape
            heads = block.attn.num_heads
            qkv = block.attn.qkv(n).reshape(batch, tokens, 3, heads, width // heads)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            p = ((q * block.attn.scale) @ k.transpose(-2, -1)).softmax(-1)
            means.append(p.mean(1, dtype=torch.float32))
            x = x + block.attn.proj((p @ v).transpose(1, 2).reshape(batch, tokens, width))
            x = x + block.mlp(block.norm2(x))
        row = None
        for mean in reversed(means):
            if row is None:
                row = 0.5 * mean[:, :1]
                row[:, 0, 0] += 0.5
            else:
                row = 0.5 * (row @ mean) + 0.5 * row
        return net.head(net.norm(x[:, 0])), row[:, 0, 1:]

    def median_ms(run):
        for _ in range(5):
            run()
        torch.cuda.synchronize()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        times = []
        until = time.monotonic() + args.seconds
        while time.monotonic() < until or len(times) < 5:
            begin.record()
            run()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
        return sorted(times)[len(times) // 2]

    found = {}
    plan = (
        ("no map", net, "default", (64,)),
        ("rollout", rollout, "default", (64,)),
        ("rollout, CUDA graph", rollout, "reduce-overhead", (1,)),
        ("no map, CUDA graph", net, "reduce-overhead", (1,)),
    )
    for name, function, mode, batches in plan:
        for batch in batches:
            if time.monotonic() - BEGAN > args.within:
                say(f"torch, {name}, batch {batch}: left out")
                continue
            compiled = torch.compile(function, mode=mode, dynamic=False)
            x = torch.randn(batch, 3, 224, 224, device="cuda", dtype=torch.float16)
            ms = median_ms(lambda: compiled(x))
            found[f"{name}, batch {batch}"] = {"batch": batch, "median_ms": ms, "images_per_s": batch * 1e3 / ms}
            say(f"torch, {name}, batch {batch}: {ms:.2f} ms, {batch * 1e3 / ms:.0f}/s")
    del net
    torch.cuda.empty_cache()
    return found


def over_http(args, model, files, folder):
    found = {"images": args.images}
    with tempfile.TemporaryFile("w+") as log:
        with Server("--model", model, "--device", "cuda", "--max-batch", "64", program=args.program, log=log) as server:
            found["ready_s"] = server.ready_s
            say(f"ready after {server.ready_s:.1f} s")
            for clients in (1, 64) if args.smoke else (1, 64, 256):
                report = folder / f"{clients}.json"
                command = [args.load, "--url", f"http://127.0.0.1:{server.port}/classify", "--clients", str(clients)]
                command += ["--duration", f"{2 * args.seconds}s", "--warmup", "2s", "--json", report, *files]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(f"the load generator failed:\n{done.stderr}")
                found[f"{clients} clients"] = json.loads(report.read_text())
                say(f"{clients} clients:\n{done.stdout}")
            found["memory_bytes"] = status_bytes(server.pid, "VmRSS")
            query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader"]
            found["card_memory"] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
        log.seek(0)
        found["log"] = [line for line in log.read().splitlines() if " WARN " in line or " INFO " in line][:40]
    return found


def crowd(args, server, files, folder, name, clients):
    """What so many clients got."""
    report = folder / f"{name}.json"
    command = [args.load, "--url", f"http://127.0.0.1:{server.port}/classify", "--clients", str(clients)]
    command += ["--duration", f"{2 * args.seconds}s", "--warmup", "1s", "--json", report, *files]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the load generator failed:\n{done.stderr}")
    say(f"{name}:\n{done.stdout}")
    return json.loads(report.read_text())


def of_devices(server):
    """The metrics of devices and batches that did not fit."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    names = ("patchlight_device_", "patchlight_batch_limit", "patchlight_batches_out_of_memory", "patchlight_inference_failures")
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(names)}


def out_of_memory(args, model, files, folder):
    """A server started on a card that another process has filled but for 3 GB: the model fits, the largest batch
    does not. It has to answer a crowd without a failure, in smaller batches. Needs torch."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    filler = torch.empty(max(free - (3 << 30), 1), dtype=torch.uint8, device="cuda")
    with tempfile.TemporaryFile("w+") as log:
        flags = ("--model", model, "--device", "cuda", "--kernels", "stock", "--max-batch", "256")
        with Server(*flags, program=args.program, log=log) as server:
            found = {"ready_s": server.ready_s, "load": crowd(args, server, files, folder, "full card", 256)}
            found["devices"] = of_devices(server)
        log.seek(0)
        found["log"] = [line for line in log.read().splitlines() if " WARN " in line][:20]
    del filler
    torch.cuda.empty_cache()
    return found


def two_cards(args, model, files, folder):
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    count = len(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split())
    if count < 2:
        return {"left_out": "there is one card"}
    found = {}
    for device in ("cuda:0", "cuda:0,1"):
        flags = ("--model", model, "--device", device, "--max-batch", "64")
        with Server(*flags, program=args.program) as server:
            found[device] = {
                "ready_s": server.ready_s,
                "load": crowd(args, server, files, folder, device, 256),
                "devices": of_devices(server),
            }
    return found


def write(args, found):
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


def table(found):
    print(f"\n{found['card']}, {found['processor']}; {found['seconds']:.0f} s")
    for name, report in found.items():
        if not isinstance(report, dict) or "batches" not in report:
            continue
        print(f"{name}: ready {report['ready_s']:.1f} s, differs {report.get('difference')}")
        for line in report["warnings"]:
            print(f"  {line}")
        for time_of in report["batches"]:
            print(f"  batch {time_of['batch']:>3}: {time_of['median_ms']:8.2f} ms (p95 {time_of['p95_ms']:.2f}) {time_of['images_per_s']:8.0f}/s")
    for name, time_of in found.get("torch", {}).items():
        if isinstance(time_of, dict):
            print(f"torch, {name}: {time_of['median_ms']:8.2f} ms {time_of['images_per_s']:8.0f}/s")
    http = found.get("http", {})
    for name in ("ready_s", "memory_bytes", "card_memory"):
        if name in http:
            print(f"http, {name}: {http[name]}")


if __name__ == "__main__":
    main()
