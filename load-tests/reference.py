"""A model directory served by hand: Pillow, numpy and onnxruntime. What the peers answer with, and the
bare session that the server is compared with.

It does what a model's manifest says, for the preprocessing that the demo and random models have.
"""

import functools
import io
import time
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


class Model:
    """A model directory; `graph` names another ONNX file of the same model, which may make no map."""

    def __init__(self, directory, threads, graph=None):
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
        self.threads = threads

    @functools.cached_property
    def session(self):
        """Opened when it is first needed: who only prepares pictures needs none."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(self.graph), options, providers=["CPUExecutionProvider"])

    @functools.cached_property
    def outputs(self):
        made = {output.name for output in self.session.get_outputs()}
        return [name for name in ("logits", "rollout") if name in made]

    def feed(self, batch):
        return {self.session.get_inputs()[0].name: batch}

    def prepare(self, encoded):
        """Bytes of a picture → float32 `3·height·width`."""
        picture = Image.open(io.BytesIO(encoded)).convert("RGB").resize(self.size, self.filter)
        return np.asarray(picture).transpose(2, 0, 1) * self.scale - self.shift

    def run(self, batch):
        """`batch·3·height·width` → one row of each output for each picture."""
        return list(zip(*self.session.run(self.outputs, self.feed(batch))))

    def answer(self, row):
        """Labels with their scores, and the map if there is one."""
        logits = row[0]
        scores = np.exp(logits - logits.max())
        scores /= scores.sum()
        best = np.argsort(-scores, kind="stable")[:5]
        label = lambda at: self.labels[at] if at < len(self.labels) else str(at)
        predictions = [{"class_id": int(at), "label": label(at), "score": float(scores[at])} for at in best]
        return {"predictions": predictions, "map": row[1].tolist() if len(row) > 1 else None}

    def loop(self, batch, seconds):
        """Pictures a second of the bare session, on tensors that are there already."""
        width, height = self.size
        tensors = np.random.default_rng(0).uniform(-1, 1, (batch, 3, height, width)).astype(np.float32)
        feed = self.feed(tensors)
        self.session.run(self.outputs, feed)
        began, pictures = time.monotonic(), 0
        while time.monotonic() < began + seconds:
            self.session.run(self.outputs, feed)
            pictures += batch
        return pictures / (time.monotonic() - began)
