"""Tiny random torchvision ViTs, and what torchvision itself answers for them.

    pip install -r requirements.txt && python make.py
"""
import pathlib
import shutil
import sys
from collections import OrderedDict

import torch
from safetensors.torch import save_file
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import reference  # noqa: E402

TINY = dict(image_size=16, patch_size=8, num_layers=2, num_heads=3, hidden_dim=24, mlp_dim=40, num_classes=6)


def answers(model, pixels):
    found = []
    for layer in model.encoder.layers:
        attention = layer.self_attention
        forward = attention.forward

        def with_weights(query, key, value, need_weights, forward=forward):
            output, weights = forward(query, key, value, need_weights=True, average_attn_weights=False)
            found.append(weights)
            return output, weights

        attention.forward = with_weights
    with torch.no_grad():
        return model(pixels), found


def make(seed):
    folder = HERE / "tiny"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model = VisionTransformer(**TINY).eval()
    generator = torch.Generator().manual_seed(seed)
    reference.randomize_weights(model, generator)
    weights = OrderedDict(model.state_dict())
    torch.save(weights, folder / "weights.pth")
    # As training programs save it, with names from before 0.12, and transposed in memory.
    old = OrderedDict((k.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."), v) for k, v in weights.items())
    old["heads.head.weight"] = torch.nn.Parameter(old["heads.head.weight"].t().contiguous().t())
    training = {"epoch": 3, "lr": 0.1, "args": ["x", None, (1, 2 ** 40)], "model": old}
    torch.save(training, folder / "training.pth")
    torch.save(training, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(weights, folder / "weights.safetensors")
    pixels = reference.pictures((16, 16), generator)
    logits, attentions = answers(model, pixels)
    reference.write(folder / "expected.json", pixels, logits, attentions, 1, "class")

    larger = VisionTransformer(**{**TINY, "image_size": 24}).eval()
    larger.load_state_dict(interpolate_embeddings(24, 8, OrderedDict(weights)))
    pixels = reference.pictures((24, 24), generator)
    logits, attentions = answers(larger, pixels)
    reference.write(folder / "expected_24.json", pixels, logits, attentions, 1, "class")


if __name__ == "__main__":
    make(0)
