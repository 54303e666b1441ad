"""Tiny random `.npz` checkpoints with the names of the ViT authors' JAX code, and what timm answers for them.

    pip install -r requirements.txt && python make.py

timm's own reader of these files (`load_pretrained`) is the reference, with the tanh GELU and the
epsilon of 1e-6 that flax has.
"""
import pathlib
import sys

import numpy as np
import timm
import torch

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import reference  # noqa: E402

WIDTH, HEADS, MLP, PATCH, GRID, CLASSES, LAYERS = 24, 3, 40, 8, 2, 5, 2


def checkpoint(seed, root, early):
    """Arrays in flax's shapes. `early`: the names of `vision_transformer`, else those of `big_vision`."""
    random = np.random.default_rng(seed)
    arrays = {}

    def add(name, *shape, around=0.0):
        scale = 0.1 if len(shape) == 1 else 0.3
        arrays[root + name] = (around + scale * random.standard_normal(shape)).astype(np.float32)

    attention, mlp, norm = ("MultiHeadDotProductAttention_1", "MlpBlock_3", "LayerNorm_2") if early else \
        ("MultiHeadDotProductAttention_0", "MlpBlock_0", "LayerNorm_1")
    add("embedding/kernel", PATCH, PATCH, 3, WIDTH)
    add("embedding/bias", WIDTH)
    if early:
        add("cls", 1, 1, WIDTH)
        add("Transformer/posembed_input/pos_embedding", 1, 1 + GRID ** 2, WIDTH)
    else:
        add("pos_embedding", 1, GRID ** 2, WIDTH)
    for i in range(LAYERS):
        block = f"Transformer/encoderblock_{i}/"
        for name in ("LayerNorm_0", norm):
            add(f"{block}{name}/scale", WIDTH, around=1.0)
            add(f"{block}{name}/bias", WIDTH)
        for name in ("query", "key", "value"):
            add(f"{block}{attention}/{name}/kernel", WIDTH, HEADS, WIDTH // HEADS)
            add(f"{block}{attention}/{name}/bias", HEADS, WIDTH // HEADS)
        add(f"{block}{attention}/out/kernel", HEADS, WIDTH // HEADS, WIDTH)
        add(f"{block}{attention}/out/bias", WIDTH)
        add(f"{block}{mlp}/Dense_0/kernel", WIDTH, MLP)
        add(f"{block}{mlp}/Dense_0/bias", MLP)
        add(f"{block}{mlp}/Dense_1/kernel", MLP, WIDTH)
        add(f"{block}{mlp}/Dense_1/bias", WIDTH)
    add("Transformer/encoder_norm/scale", WIDTH, around=1.0)
    add("Transformer/encoder_norm/bias", WIDTH)
    add("head/kernel", WIDTH, CLASSES)
    add("head/bias", CLASSES)
    return arrays


def stacked(arrays):
    """As big_vision keeps blocks that it loops over: one array for all, with an axis for the layer."""
    kept = {name: array for name, array in arrays.items() if "/encoderblock_" not in name}
    first = [name for name in arrays if "/encoderblock_0/" in name]
    for name in first:
        layers = [arrays[name.replace("encoderblock_0", f"encoderblock_{i}")] for i in range(LAYERS)]
        kept[name.replace("encoderblock_0", "encoderblock")] = np.stack(layers)
    return kept


def make(name, seed, root, early, save, arrange=dict, **extra):
    path = HERE / f"{name}.npz"
    arrays = arrange(checkpoint(seed, root, early))
    save(path, **arrays, **extra)
    pooling = dict() if early else dict(class_token=False, global_pool="avg", fc_norm=False)
    model = timm.create_model("vit_tiny_patch16_224", img_size=GRID * PATCH, patch_size=PATCH, embed_dim=WIDTH,
                              depth=LAYERS, num_heads=HEADS, mlp_ratio=MLP / WIDTH, num_classes=CLASSES,
                              act_layer="gelu_tanh", **pooling).eval()
    model.load_pretrained(str(path))
    pixels = reference.pictures((GRID * PATCH,) * 2, torch.Generator().manual_seed(seed))
    logits, attentions = reference.timm_answers(model, pixels)
    reference.write(HERE / f"{name}.json", pixels, logits, attentions, 1 if early else 0,
                    "class" if early else "patch mean")


if __name__ == "__main__":
    make("augreg", 0, "", True, np.savez)
    make("original", 1, "opt/target/", True, np.savez_compressed, **{"opt/state/step": np.int32(7)})
    make("big_vision", 2, "params/", False, np.savez)
    make("big_vision_stacked", 3, "params/", False, np.savez_compressed, stacked)
