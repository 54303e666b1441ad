"""Times graphs beside each other: float32, int8 and torch's own export, with and without maps.

    python load-tests/precision.py --patchlight target/release/patchlight --work /tmp/precision
    python load-tests/precision.py ... --arch vit-l-16 --batch 1 8 --repeat 7 --json report.json

Every figure is a ratio from this one run. The graphs take turns, image sets included, and what is
compared is the processor time of one thread, of which other programs on the machine take less than
of the wall clock; each graph's figure is the median over the turns.

torch's export needs torch and, of this size, 3 GB of memory; without torch the rows are left out and
that is said. Needs onnxruntime, numpy and (for graphs without maps and counts of operators) onnx.
"""
import argparse
import collections
import json
import pathlib
import statistics
import subprocess
import time

import numpy as np
import onnxruntime as ort

SIZES = {  # layers, heads, hidden
    "vit-ti-16": (12, 3, 192),
    "vit-s-16": (12, 6, 384),
    "vit-b-16": (12, 12, 768),
    "vit-l-16": (24, 16, 1024),
}


def import_graph(patchlight, arch, precision, out):
    if not (out / "model.toml").exists():
        command = [patchlight, "import", "--arch", arch, "--random-weights", "--precision", precision, "--out", out]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return out / "model.onnx"


def pruned(graph, outputs):
    """The same graph with these outputs only, beside it: what leads nowhere else is dropped on loading."""
    import onnx
    out = graph.with_name("without-" + "-".join(outputs) + ".onnx")
    if not out.exists():
        model = onnx.load(str(graph), load_external_data=False)
        kept = [o for o in model.graph.output if o.name in outputs]
        del model.graph.output[:]
        model.graph.output.extend(kept)
        wanted, nodes = set(outputs), []
        for node in reversed(model.graph.node):
            if wanted & set(node.output):
                wanted |= set(node.input)
                nodes.append(node)
        del model.graph.node[:]
        model.graph.node.extend(reversed(nodes))
        initializers = [i for i in model.graph.initializer if i.name in wanted]
        del model.graph.initializer[:]
        model.graph.initializer.extend(initializers)
        out.write_bytes(model.SerializeToString())
    return out


def with_fused_qkv(graph):
    """The same float32 graph with one product for queries, keys and values, taken apart by a Split, beside it.

    The last block stays: it asks for the class token's queries only."""
    import onnx
    from onnx import helper
    out = graph.with_name("fused-" + graph.name)
    if out.exists():
        return out
    model = onnx.load(str(graph), load_external_data=False)
    known = {i.name for i in model.graph.initializer}
    of_constants, others = [], []
    for node in model.graph.node:
        constant = all(name in known for name in node.input)
        known |= set(node.output) if constant else set()
        (of_constants if constant else others).append(node)
    products = {n.output[0]: n for n in others if n.op_type == "Gemm"}
    blocks = sum(name.endswith("/attention/queries/flat") for name in products)
    for block in range(blocks - 1):
        three = [products[f"block.{block}/attention/{part}/flat"] for part in ("queries", "keys", "values")]
        assert all(n.input[0] == three[0].input[0] for n in three)
        name = f"block.{block}/attention/qkv"
        joined = [f"{name}.kernel", f"{name}.bias"]
        for position, both in enumerate(joined, 1):  # folded on loading
            of_constants.append(helper.make_node("Concat", [n.input[position] for n in three], [both], axis=-1))
        at = others.index(three[0])
        others = [n for n in others if n not in three]
        others.insert(at, helper.make_node("Split", [name], [n.output[0] for n in three], axis=1, num_outputs=3))
        others.insert(at, helper.make_node("Gemm", [three[0].input[0], *joined], [name], name=name))
    del model.graph.node[:]
    model.graph.node.extend(of_constants + others)
    out.write_bytes(model.SerializeToString())
    return out


def torch_model(arch):
    """A plain ViT in PyTorch with random weights, always the same."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification
    layers, heads, hidden = SIZES[arch]
    config = ViTConfig(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                       intermediate_size=4 * hidden, num_labels=1000)
    torch.manual_seed(0)
    return ViTForImageClassification(config).eval()


def torch_export(arch, out, model=None):
    """Such a model, exported as torch's guide says."""
    if out.exists():
        return out
    import torch
    model = model or torch_model(arch)

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixel_values):
            return self.model(pixel_values).logits

    out.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        torch.onnx.export(Logits(), (torch.randn(2, 3, 224, 224),), str(out), input_names=["pixel_values"],
                          output_names=["logits"], dynamic_axes={"pixel_values": {0: "batch"}}, dynamo=False,
                          opset_version=17)
    return out


def session(graph, optimized=None):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    if optimized:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def operators(graph, work):
    """What the runtime makes of a graph: how many nodes of each operator, its own marked with their domain."""
    import onnx
    optimized = work / "optimized.onnx"
    session(graph, optimized)
    model = onnx.load(str(optimized), load_external_data=False)
    optimized.unlink()
    names = (n.op_type if n.domain in ("", "ai.onnx") else f"{n.domain}.{n.op_type}" for n in model.graph.node)
    return dict(collections.Counter(names).most_common())


def measure(graphs, batch, repeat):
    """Median processor time of an image in seconds, by name; graphs take turns after one warm-up each."""
    pixels = np.random.default_rng(0).uniform(-1, 1, (batch, 3, 224, 224)).astype(np.float32)
    sessions = {name: session(path) for name, path in graphs.items()}
    names = {name: s.get_inputs()[0].name for name, s in sessions.items()}
    times = {name: [] for name in graphs}
    for turn in range(repeat + 1):
        for name, s in sessions.items():
            started = time.process_time()
            s.run(None, {names[name]: pixels})
            if turn:
                times[name].append((time.process_time() - started) / batch)
    return {name: statistics.median(t) for name, t in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--patchlight", type=pathlib.Path, default=pathlib.Path("target/release/patchlight"))
    parser.add_argument("--work", type=pathlib.Path, required=True, help="graphs are made here, once")
    parser.add_argument("--arch", choices=SIZES, default="vit-l-16")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of the graphs to compare, as they are printed; "
                        "all by default, which for vit-l-16 takes about 16 GB")
    parser.add_argument("--json", type=pathlib.Path)
    a = parser.parse_args()

    base = a.work / a.arch
    ours = import_graph(a.patchlight, a.arch, "fp32", base / "fp32")
    graphs = {"float32, all maps": ours, "int8, all maps": import_graph(a.patchlight, a.arch, "int8", base / "int8")}
    notes = []
    try:
        graphs["float32, rollout"] = pruned(ours, ["logits", "rollout"])
        graphs["float32, logits only"] = pruned(ours, ["logits"])
        graphs["float32, rollout, fused QKV"] = with_fused_qkv(graphs["float32, rollout"])
        graphs["int8, rollout"] = pruned(graphs["int8, all maps"], ["logits", "rollout"])
    except ImportError as error:
        notes.append(f"no graphs without maps: {error}")
    try:
        graphs["torch export, logits only"] = torch_export(a.arch, base / "torch" / "model.onnx")
    except ImportError as error:
        notes.append(f"no export of torch: {error}")

    if a.only:
        graphs = {name: graphs[name] for name in a.only}
    report = {"arch": a.arch, "onnxruntime": ort.__version__, "threads": 1, "repeat": a.repeat, "batches": {}, "notes": notes}
    references = ["float32, rollout", "float32, all maps", *graphs]
    reference = next(name for name in references if name in graphs)
    print(f"{a.arch}, onnxruntime {ort.__version__}, one thread, processor time, median of {a.repeat} turns; ratios to {reference}")
    for batch in a.batch:
        times = measure(graphs, batch, a.repeat)
        report["batches"][batch] = times
        for name, seconds in times.items():
            print(f"  batch {batch:3d}  {name:28s} {1000 * seconds:8.1f} ms per image  {seconds / times[reference]:.3f}", flush=True)
    try:
        report["operators"] = {name: operators(path, a.work) for name, path in graphs.items()}
        for name, counts in report["operators"].items():
            print(f"  {name}: " + ", ".join(f"{count} {op}" for op, count in counts.items()))
    except ImportError as error:
        notes.append(f"no counts of operators: {error}")
    for note in notes:
        print(f"  {note}")
    if a.json:
        a.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
