"""Tiny random networks that are no Vision Transformers, exported to ONNX, and what torch answers for them.

    pip install -r requirements.txt && python make.py

Beside each graph lies a `config.json` of timm with the preprocessing and `expected.json`: inputs, logits, and the
evidence of the best labels, worked in float64 from what hooks saw enter the mean over positions:

    φ_c[j] = ⟨x_j, u_c⟩ / P      u_c the classifier's row, through the normalisation of the mean where there is one
"""
import json
import pathlib
import shutil
import sys

import numpy as np
import timm
import torch
import transformers as hf

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "families")]
import reference  # noqa: E402

SIDE = 64


def timm_network(name, **arguments):
    return timm.create_model(name, num_classes=6, **arguments)


def logits_of(model):
    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixels):
            return self.model(pixels).logits
    return Logits()


def hf_convnext():
    config = hf.ConvNextConfig(hidden_sizes=[8, 8, 12, 16], depths=[1, 1, 1, 1], num_labels=6)
    return hf.ConvNextForImageClassification(config)


def hf_swin():
    config = hf.SwinConfig(image_size=SIDE, patch_size=4, embed_dim=8, depths=[2, 1], num_heads=[2, 2], window_size=4,
                           num_labels=6)
    return hf.SwinForImageClassification(config)


# name: the network; the module whose output the mean is taken of, the axis of its channels, a normalisation of the
# mean, the classifier; how it is exported
CASES = {
    "resnet": (lambda: timm_network("resnet18", block_args={}, channels=(8, 8, 12, 16), stem_width=8),
               "layer4", 1, None, "fc", dict(opset=17)),
    "convnext": (lambda: timm_network("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 12, 16)),
                 "stages", 1, "head.norm", "head.fc", dict(opset=13)),
    "swin": (lambda: timm_network("swin_tiny_patch4_window7_224", img_size=SIDE, embed_dim=8, depths=(2, 1),
                                  num_heads=(2, 2), window_size=4),
             "norm", 3, None, "head.fc", dict(opset=17)),
    "transformers_convnext": (hf_convnext, "convnext.encoder", 1, "convnext.layernorm", "classifier",
                              dict(opset=18, dynamo=True)),
    "transformers_swin_one_image": (hf_swin, "swin.layernorm", 2, None, "classifier", dict(opset=17, one=True)),
    "efficientnet": (lambda: timm_network("test_efficientnet"), "bn2", 1, None, "classifier", dict(opset=13)),
    # Something nonlinear stands between mean and classifier: no evidence.
    "nonlinear_head": (lambda: torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 4, 4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 12), torch.nn.ReLU(), torch.nn.Linear(12, 6)), None, 1, None, None, dict(opset=17)),
}


def randomize(model, generator):
    reference.randomize_weights(model, generator)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
            if name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)


def evidence(head, logits, states, norm):
    array = lambda parameter: parameter.detach().double().numpy()
    best = np.argsort(-logits, kind="stable")[:5]
    rows = np.vstack([array(head.weight)[best], array(head.weight).mean(0)])
    rest = np.append(array(head.bias)[best], array(head.bias).mean())
    targets = np.append(logits[best], logits.mean())
    if norm is not None:
        deviation = np.sqrt(states.mean(0).var() + norm.eps)
        rest = rest + rows @ array(norm.bias)
        rows = rows * array(norm.weight)
        rows = (rows - rows.mean(1, keepdims=True)) / deviation
    patches = rows @ states.T / len(states)
    assert np.abs(patches.sum(1) + rest - targets).max() < 1e-3 * max(1, np.abs(targets).max())
    return dict(patches=patches.tolist(), rest=rest.tolist(), classes=best.tolist())


def make(name, seed):
    build, module, axis, norm, head, export = CASES[name]
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model = build().eval()
    generator = torch.Generator().manual_seed(seed)
    randomize(model, generator)
    pixels = reference.pictures((SIDE, SIDE), generator)
    seen = []
    if module:
        hook = lambda _m, _i, out: seen.append((out if isinstance(out, torch.Tensor) else out[0]).detach().double().numpy())
        model.get_submodule(module).register_forward_hook(hook)
    whole = logits_of(model) if isinstance(model, hf.PreTrainedModel) else model
    with torch.no_grad():
        logits = whole(pixels)
    expected = dict(pixel_values=pixels.flatten(1).tolist(), logits=logits.tolist())
    if module:
        states = np.moveaxis(seen[0], axis, -1)
        states = states.reshape(states.shape[0], -1, states.shape[-1])
        parts = [model.get_submodule(part) if part else None for part in (head, norm)]
        expected["evidence"] = [evidence(parts[0], z, x, parts[1]) for z, x in zip(logits.double().numpy(), states)]
    short = json.loads(json.dumps(expected, default=float), parse_float=lambda s: round(float(s), 9))
    (folder / "expected.json").write_text(json.dumps(short) + "\n")
    config = dict(architecture=name, num_classes=6, pretrained_cfg=dict(input_size=[3, SIDE, SIDE], crop_pct=1.0))
    (folder / "config.json").write_text(json.dumps(config) + "\n")
    arguments = dict(input_names=["pixel_values"], output_names=["logits"], opset_version=export["opset"])
    example = pixels[:1]
    if export.get("dynamo"):
        dynamic = ({0: torch.export.Dim("batch")},)
        torch.onnx.export(whole, (pixels,), folder / "model.onnx", dynamo=True, external_data=False,
                          dynamic_shapes=dynamic, **arguments)
    else:
        axes = None if export.get("one") else dict(pixel_values={0: "batch"}, logits={0: "batch"})
        torch.onnx.export(whole, (example,), folder / "model.onnx", dynamo=False, dynamic_axes=axes, **arguments)


if __name__ == "__main__":
    for seed, name in enumerate(CASES):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        print(name, flush=True)
        make(name, seed)
