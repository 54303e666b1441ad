#!/usr/bin/env python3
"""ViT-L/16 in float16 on an NVIDIA card: right answers, the model alone beside PyTorch, and over HTTP.

    load-tests/gpu.py --json report.json          # ends within six minutes; needs torch and timm for the peers

The program (`cargo build --release --features cuda`, or --program) is compared with the CPU first. Then the
model alone is timed at batch 1, 8, 64 and 128 with inputs and outputs in the host's memory: with our kernels,
with the runtime's operators alone, and without maps; beside PyTorch, whose inputs are on the card: compiled
without a map, and compiled with a rollout from plain attention matrices. Last come 1, 64 and 256 clients over
HTTP with photographs of 500×375 pixels, the generator on the same cores. Where nothing can be downloaded, make
them before with images.py, and carry target/photographs.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import images
from harness import ROOT, Server, status_bytes

BATCHES = (1, 8, 64, 128)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/patchlight")
    parser.add_argument("--load", type=Path, default=ROOT / "target/release/patchlight-load")
    parser.add_argument("--model", type=Path, help="a model directory in float16 [default: random weights]")
    parser.add_argument("--seconds", type=int, default=3, help="for each batch size and load")
    parser.add_argument("--skip", nargs="*", default=[], choices=["torch", "stock", "http"])
    images.add_option(parser)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = {"card": card(), "images": args.images}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model = args.model or imported(args, folder)
        found["ours"] = bench(args, model, "--compare", "4")
        if "stock" not in args.skip:
            found["stock operators"] = bench(args, model, "--kernels", "stock", batches=(1, 64, 128))
        found["ours, logits alone"] = bench(args, model, "--no-maps", batches=(1, 64))
        write(args, found)
        if "torch" not in args.skip:
            found["torch"] = torch_peers(args)
            write(args, found)
        if "http" not in args.skip:
            found["http"] = over_http(args, model, images.small(args.images), folder)
    write(args, found)
    table(found)


def card():
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()


def imported(args, folder):
    out = folder / "vit-l"
    began = time.monotonic()
    command = [args.program, "import", "--arch", "vit-l-16", "--random-weights", "--precision", "fp16", "--out", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"imported in {time.monotonic() - began:.1f} s", flush=True)
    return out


def bench(args, model, *flags, batches=BATCHES):
    command = [args.program, "bench", "--model", model, "--device", "cuda", "--json", *flags]
    command += ["--seconds", str(args.seconds), "--batch", ",".join(map(str, batches))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench failed:\n{done.stderr}")
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
    plan = (("no map", net, "default", (64,)), ("rollout", rollout, "default", (64, 128)), ("rollout, CUDA graph", rollout, "reduce-overhead", (1,)))
    for name, function, mode, batches in plan:
        for batch in batches:
            compiled = torch.compile(function, mode=mode, dynamic=False)
            x = torch.randn(batch, 3, 224, 224, device="cuda", dtype=torch.float16)
            ms = median_ms(lambda: compiled(x))
            found[f"{name}, batch {batch}"] = {"batch": batch, "median_ms": ms, "images_per_s": batch * 1e3 / ms}
            print(name, batch, found[f"{name}, batch {batch}"], flush=True)
    del net
    torch.cuda.empty_cache()
    return found


def over_http(args, model, files, folder):
    found = {}
    flags = ["--model", model, "--device", "cuda", "--max-batch", "64", "--sessions", "2"]
    with Server(*flags, program=args.program) as server:
        found["ready_s"] = server.ready_s
        for clients in (1, 64, 256):
            report = folder / f"{clients}.json"
            command = [args.load, "--url", f"http://127.0.0.1:{server.port}/classify", "--clients", str(clients)]
            command += ["--duration", f"{2 * args.seconds}s", "--warmup", "2s", "--json", report, *files]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"the load generator failed:\n{done.stderr}")
            found[f"{clients} clients"] = json.loads(report.read_text())
            print(f"{clients} clients:\n{done.stdout}", flush=True)
        found["memory_bytes"] = status_bytes(server.pid, "VmRSS")
        query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader"]
        found["card_memory"] = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    return found


def write(args, found):
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


def table(found):
    print(f"\n{found['card']}")
    for name in ("ours", "stock operators", "ours, logits alone"):
        if name not in found:
            continue
        report = found[name]
        print(f"{name}: ready {report['ready_s']:.1f} s, differs {report.get('difference')}, {report['warnings']}")
        for time_of in report["batches"]:
            print(f"  batch {time_of['batch']:>3}: {time_of['median_ms']:8.2f} ms {time_of['images_per_s']:8.0f}/s")
    for name, time_of in found.get("torch", {}).items():
        print(f"torch, {name}: {time_of['median_ms']:8.2f} ms {time_of['images_per_s']:8.0f}/s")


if __name__ == "__main__":
    main()
