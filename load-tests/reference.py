"""A model directory served by hand: Pillow, numpy and onnxruntime. What the peers answer with, and what
the stock runtime takes (bare.py).

It does what a model's manifest says, for the preprocessing that the demo and random models have.
"""

import functools
import io
import threading
import tomllib
from pathlib import Path

import numpy as np
from PIL import Image


class OnnxRuntime:
    """A session as the guides open it."""

    def __init__(self, graph, threads, spin=True):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.outputs = [output.name for output in self.session.get_outputs()]

    def run(self, outputs, batch):
        return self.session.run(outputs, {self.input: batch})


class OpenVinoBf16:
    """OpenVINO told to compute in bfloat16, which it chooses by itself where the processor has it."""

    def __init__(self, graph, threads):
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        self.compiled = openvino.Core().compile_model(str(graph), "CPU", settings)
        self.outputs = [output.any_name for output in self.compiled.outputs]
        # A request runs once at a time, and FastAPI's threads come together.
        self.own = threading.local()

    def run(self, outputs, batch):
        if not hasattr(self.own, "request"):
            self.own.request = self.compiled.create_infer_request()
        found = self.own.request.infer([batch])
        return [found[name] for name in outputs]


RUNTIMES = {"onnxruntime": OnnxRuntime, "openvino-bf16": OpenVinoBf16}


class Model:
    """A model directory; `graph` names another ONNX file of the same model, which may make no map."""

    def __init__(self, directory, threads, graph=None, runtime="onnxruntime"):
        directory = Path(directory)
        manifest = tomllib.loads((directory / "model.toml").read_text())
        preprocess = manifest["preprocess"]
        resize = preprocess["resize"]
        if resize["mode"] != "squash" or preprocess.get("crop"):
            raise SystemExit(f"{directory}: only models that resize to a fixed size are compared here")
        self.size = (resize["width"], resize["height"])
        self.filter = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[preprocess["filter"]]
        normalize = preprocess["normalize"]
        mean, std = (np.array(normalize[name], np.float32)[:, None, None] for name in ("mean", "std"))
        self.scale, self.shift = np.float32(normalize["scale"]) / std, mean / std
        labels = directory / "labels.txt"
        self.labels = labels.read_text().splitlines() if labels.exists() else []
        self.classes = manifest["task"]["classes"]
        self.precision = manifest["graph"]["precision"]
        self.graph = Path(graph) if graph else directory / manifest["graph"]["file"]
        self.weight_bytes = sum(file.stat().st_size for file in self.graph.parent.glob(self.graph.name + "*"))
        self.threads, self.runtime = threads, RUNTIMES[runtime]

    @functools.cached_property
    def session(self):
        """Opened when it is first needed: who only prepares images needs none."""
        return self.runtime(self.graph, self.threads)

    @functools.cached_property
    def outputs(self):
        return [name for name in ("logits", "rollout") if name in self.session.outputs]

    def prepare(self, encoded):
        """Bytes of an image → float32 `3·height·width`."""
        image = Image.open(io.BytesIO(encoded)).convert("RGB").resize(self.size, self.filter)
        return np.asarray(image).transpose(2, 0, 1) * self.scale - self.shift

    def run(self, batch):
        """`batch·3·height·width` → one row of each output for each image."""
        return list(zip(*self.session.run(self.outputs, batch)))

    def answer(self, row):
        """Labels with their scores, and the map if there is one."""
        logits = row[0]
        scores = np.exp(logits - logits.max())
        scores /= scores.sum()
        best = np.argsort(-scores, kind="stable")[:5]
        label = lambda at: self.labels[at] if at < len(self.labels) else str(at)
        predictions = [{"class_id": int(at), "label": label(at), "score": float(scores[at])} for at in best]
        return {"predictions": predictions, "map": row[1].tolist() if len(row) > 1 else None}
