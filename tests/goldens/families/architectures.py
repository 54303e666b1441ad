"""What each of timm's functions passes to its class: crates/import/src/families/timm/architectures.json.

    pip install -r requirements.txt && python architectures.py

Built without memory for weights. What the class has by default is left out, and so is what shows in the
tensors or changes nothing when a network classifies.
"""
import functools
import inspect
import json
import pathlib

import timm
from timm.models import beit, eva, vision_transformer

OUT = pathlib.Path(__file__).parents[3] / "crates/import/src/families/timm/architectures.json"
LEFT_OUT = {
    "attn_only_layer_scale", "depth", "device", "drop_path_rate", "dtype", "embed_dim", "fix_init",
    "init_values", "mlp_ratio", "num_classes", "patch_size", "rope_jitter_coords", "rope_rescale_coords",
    "rope_shift_coords", "self", "swiglu_align_to", "weight_init",
}
found = {}
current = None


def as_json(value):
    if isinstance(value, functools.partial):
        arguments = sorted(value.keywords.items())
        return f"{as_json(value.func)}({','.join(f'{name}={as_json(given)}' for name, given in arguments)})"
    if inspect.isclass(value) or inspect.isfunction(value):
        return value.__name__
    return value


def record(kind):
    signature, original = inspect.signature(kind.__init__), kind.__init__

    def init(self, *args, **kwargs):
        given = signature.bind(self, *args, **kwargs).arguments
        given = {name: as_json(value) for name, value in given.items() if name not in LEFT_OUT}
        own = {name: value for name, value in given.items() if as_json(signature.parameters[name].default) != value}
        if type(self) is kind:
            found.setdefault(current, (kind.__name__, dict(sorted(own.items()))))
        original(self, *args, **kwargs)

    kind.__init__ = init


if __name__ == "__main__":
    for kind in (beit.Beit, eva.Eva, vision_transformer.VisionTransformer):
        record(kind)
    for module in ("beit", "deit", "eva", "vision_transformer"):
        for current in timm.list_models(module=module):
            timm.create_model(current, device="meta")
    lines = (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(found.items()))
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
