"""What the makers of model goldens share: lively weights, inputs, rollout, and how answers are written.

The rollout is the plain product of full matrices in float64 over the attention probabilities that the
library computed, nothing cleverer:

    A = mean over heads;  Â = rows of (A + I) divided by their sums
    R = Â_L · … · Â_k, the later block on the left;  map = start · R
"""
import json

import numpy as np
import torch

PICTURES = 2
FUSIONS = {"mean": np.mean, "max": np.max, "min": np.min}


def randomize_weights(model, generator):
    """Weights large enough for attention to be far from uniform, and biases and scales that matter."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.1 if p.dim() == 1 else 0.3))
            if p.dim() == 1 and name.endswith(("weight", "gamma")):
                p.add_(1)


def pictures(sides, generator):
    """Inputs that are short in decimal and exact in float32."""
    pixels = torch.randn(PICTURES, 3, *sides, generator=generator)
    return (pixels * 4).round() / 4


def start_vector(tokens, prefix, pooling):
    start = np.zeros(tokens)
    if pooling == "class":
        start[0] = 1
    elif pooling == "class and distillation":
        start[:2] = 0.5
    elif pooling == "patch mean":
        start[prefix:] = 1 / (tokens - prefix)
    else:
        raise ValueError(pooling)
    return start


def rollout(attentions, fuse, first, start):
    """attentions [layers, heads, n, n]"""
    product = np.eye(attentions.shape[-1])
    for block in attentions[first:]:
        with_identity = fuse(block, axis=0) + np.eye(block.shape[-1])
        product = (with_identity / with_identity.sum(-1, keepdims=True)) @ product
    return start @ product


def timm_answers(model, pixels):
    """Logits, and the probabilities that timm computes: what its dropout on them is given."""
    found = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _module, _inputs, output: found.append(output.clone()))
    with torch.no_grad():
        return model(pixels), found


def write(path, pixels, logits, attentions, prefix, pooling, **more):
    """attentions: one tensor [pictures, heads, n, n] a block"""
    attentions = torch.stack(list(attentions), 1).double().numpy()
    assert np.allclose(attentions.sum(-1), 1)
    start = start_vector(attentions.shape[-1], prefix, pooling)
    expected = {
        "pixel_values": pixels.flatten(1).tolist(),
        "logits": logits.tolist(),
        "rollout_by_start": {
            name: [[rollout(a, fuse, k, start).tolist() for k in range(len(a))] for a in attentions]
            for name, fuse in FUSIONS.items()
        },
        **more,
    }
    short = json.loads(json.dumps(expected, default=float), parse_float=lambda s: round(float(s), 9))
    path.write_text(json.dumps(short) + "\n")
