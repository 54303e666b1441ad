"""Tiny random ViTs, and what `transformers` itself answers for them.

    pip install -r requirements.txt && python make.py

Each folder made here is a checkpoint as `save_pretrained` writes it, with `expected.json` beside it:
random inputs, logits, and the rollout for every head fusion and every start block. The rollout
is the plain product of full matrices in float64 over `output_attentions`, nothing cleverer:

    A = fused heads of one block;  Â = rows of (A + I) divided by their sums
    R = Â_L · … · Â_k, the later block on the left;  map = row 0 of R

and per-label evidence, taken apart in float64 from what hooks see inside the model: for each head
apart, the value of every token times the class token's attention goes through the head's columns of
the output layer, then through the last normalisation with its scale frozen, to one logit. The rest
is the sum of its own terms, and the account is checked here before anything is written.
"""
import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import (DeiTConfig, DeiTForImageClassification, DeiTForImageClassificationWithTeacher,
                          DeiTImageProcessor, ViTConfig, ViTForImageClassification, ViTImageProcessor)

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import reference  # noqa: E402

PICTURES = 2
TINY = dict(image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
            intermediate_size=64, num_labels=7)
CASES = {
    "plain": (dict(), torch.float32),
    "wide_grid": (dict(image_size=[16, 40], num_attention_heads=2), torch.float32),
    "no_qkv_bias_tanh": (dict(qkv_bias=False, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6,
                              num_hidden_layers=2), torch.float32),
    "odd_head_size": (dict(hidden_size=30, num_attention_heads=5, hidden_act="gelu_new", num_hidden_layers=1),
                      torch.float32),
    "float16": (dict(), torch.float16),
    "bfloat16": (dict(hidden_size=24, num_attention_heads=4, num_hidden_layers=2), torch.bfloat16),
    "relu_one_class": (dict(hidden_act="relu", num_labels=1, num_hidden_layers=1), torch.float32),
}
FUSIONS = {"mean": np.mean, "max": np.max, "min": np.min}


def randomize_weights(model, generator):
    """Weights large enough for attention to be far from uniform, and biases and scales that matter."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = {1: 0.1}.get(p.dim(), 0.3)
            p.copy_(torch.randn(p.shape, generator=generator) * scale)
            if "layernorm" in name and name.endswith("weight"):
                p.add_(1)


def rollout(attentions, fuse, start):
    """Class token's row of the product from block `start` on; attentions [layers, heads, n, n]."""
    product = np.eye(attentions.shape[-1])
    for block in attentions[start:]:
        with_identity = fuse(block, axis=0) + np.eye(block.shape[-1])
        product = (with_identity / with_identity.sum(-1, keepdims=True)) @ product
    return product[0]


class ActivationRecorder:
    """Inputs and outputs of modules in one forward pass, in float64."""

    def __init__(self, modules):
        self.activations = {}
        self.hooks = [m.register_forward_hook(self.hook(name)) for name, m in modules.items()]

    def hook(self, name):
        def record(_, inputs, output):
            first = lambda x: (x[0] if isinstance(x, tuple) else x).detach().double().numpy()
            self.activations[name] = (first(inputs), first(output))
        return record

    def __enter__(self):
        return self.activations

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()


def attribution_modules(model):
    """The modules that the evidence is made of."""
    modules = {"embedding": model.vit.embeddings, "norm": model.vit.layernorm}
    for i, layer in enumerate(model.vit.layers):
        modules |= {f"value.{i}": layer.attention.v_proj, f"mlp.{i}": layer.mlp.fc2}
    return modules


def attribution(model, activations, attentions, logits, picture):
    """Of the best labels, and of the mean over all classes: patches [labels + 1, patches], rest, classes."""
    array = lambda p: p.detach().double().numpy()
    norm, head = model.vit.layernorm, model.classifier
    state = activations["norm"][0][picture, 0]
    deviation = np.sqrt(state.var() + norm.eps)
    best = np.argsort(-logits, kind="stable")[:min(5, len(logits))]
    rows = np.vstack([array(head.weight)[best], array(head.weight).mean(0)])
    biases = np.append(array(head.bias)[best], array(head.bias).mean())
    targets = np.append(logits[best], logits.mean())
    layers, heads, tokens, _ = attentions.shape

    patches, rest = [], []
    for row, bias, target in zip(rows, biases, targets):
        def into_logit(vector):
            return (vector - vector.mean(-1, keepdims=True)) / deviation * array(norm.weight) @ row
        shares = np.zeros(tokens)
        others = into_logit(activations["embedding"][1][picture, 0]) + array(norm.bias) @ row + bias
        for layer in range(layers):
            out = model.vit.layers[layer].attention.o_proj
            values = activations[f"value.{layer}"][1][picture]
            size = values.shape[-1] // heads
            for h in range(heads):
                columns = slice(h * size, (h + 1) * size)
                weighted = attentions[layer, h, 0][:, None] * values[:, columns]
                shares += into_logit(weighted @ array(out.weight)[:, columns].T)
            others += into_logit(array(out.bias)) + into_logit(activations[f"mlp.{layer}"][1][picture, 0])
        assert abs(shares.sum() + others - target) < 1e-4, (shares.sum() + others, target)
        patches.append(shares[1:].tolist())
        rest.append(others + shares[0])
    return dict(patches=patches, rest=rest, classes=best.tolist())


def make(name, overrides, dtype, seed):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    config = ViTConfig(**{**TINY, **overrides})
    model = ViTForImageClassification._from_config(config, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    randomize_weights(model, generator)
    model.to(dtype).save_pretrained(folder)
    # What is stored in 16 bits is computed in 32: the service does the same.
    model = model.float()

    sides = config.image_size if isinstance(config.image_size, (list, tuple)) else [config.image_size] * 2
    ViTImageProcessor(size=dict(height=sides[0], width=sides[1])).save_pretrained(folder)
    pixels = torch.randn(PICTURES, 3, *sides, generator=generator)
    pixels = (pixels * 8).round() / 8  # short in decimal, exact in float32
    with torch.no_grad(), ActivationRecorder(attribution_modules(model)) as activations:
        out = model(pixels, output_attentions=True)
    attentions = torch.stack(out.attentions, 1).double().numpy()
    assert attentions.shape[:3] == (PICTURES, config.num_hidden_layers, config.num_attention_heads)
    expected = {
        "pixel_values": pixels.flatten(1).tolist(),
        "logits": out.logits.tolist(),
        "rollout_by_start": {
            fusion: [[rollout(a, fuse, k).tolist() for k in range(len(a))] for a in attentions]
            for fusion, fuse in FUSIONS.items()
        },
        "evidence": [attribution(model, activations, a, z, picture)
                     for picture, (a, z) in enumerate(zip(attentions, out.logits.double().numpy()))],
        "class_attention": attentions[:, :, :, 0].tolist(),
    }
    text = json.dumps(expected, default=float)
    (folder / "expected.json").write_text(json.dumps(json.loads(text, parse_float=lambda s: round(float(s), 9))) + "\n")


def make_deit(name, kind, tokens_read, seed):
    """Like `make`, for DeiT, whose distillation token is the second of the prefix."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    config = DeiTConfig(image_size=16, patch_size=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
                        intermediate_size=40, num_labels=5, problem_type="multi_label_classification")
    model = kind._from_config(config, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    reference.randomize_weights(model, generator)
    # Small shards, so that there are several.
    model.save_pretrained(folder, max_shard_size="20KB")
    DeiTImageProcessor(size=dict(height=18, width=18), crop_size=dict(height=16, width=16)).save_pretrained(folder)
    pixels = reference.pictures((16, 16), generator)
    with torch.no_grad():
        out = model(pixels, output_attentions=True)
    pooling = {1: "class", 2: "class and distillation"}[tokens_read]
    reference.write(folder / "expected.json", pixels, out.logits, out.attentions, 2, pooling)
    # The same as torch saved it before safetensors were usual, and resampled for another size.
    shards = sorted(folder.glob("*.safetensors"))
    weights = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    torch.save(weights, folder / "pytorch_model.bin")
    with torch.no_grad():
        pixels = reference.pictures((24, 24), generator)
        out = model(pixels, output_attentions=True, interpolate_pos_encoding=True)
    reference.write(folder / "expected_24.json", pixels, out.logits, out.attentions, 2, pooling)


if __name__ == "__main__":
    for seed, (name, (overrides, dtype)) in enumerate(CASES.items()):
        make(name, overrides, dtype, seed)
    make_deit("deit", DeiTForImageClassification, 1, 100)
    make_deit("deit_teacher", DeiTForImageClassificationWithTeacher, 2, 101)
