"""Tiny random ViTs, exported to ONNX by every exporter there is, and what their libraries answer.

    pip install -r requirements.txt && python make.py            # torch's two exporters, timm
    pip install -r requirements-optimum.txt && python make.py optimum   # in an environment of its own

Each folder holds an exported graph, the description that lies beside it where the library writes
one, and `expected.json` with logits and the rollout in float64, over the probabilities that the
library itself computed. What a name says is what the export is about. Networks that have no attention
have logits only.
"""
import json
import logging
import pathlib
import shutil
import sys
import warnings

import onnx
import torch
from transformers import (ConvNextConfig, ConvNextForImageClassification, ConvNextImageProcessorPil, ResNetConfig,
                          ResNetForImageClassification, ViTConfig, ViTForImageClassification, ViTImageProcessor)

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import reference  # noqa: E402

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
CONFIG = dict(image_size=16, patch_size=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
              intermediate_size=40, num_labels=5)
TINY = dict(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, mlp_ratio=2, num_classes=5)


class Logits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model(pixel_values).logits


def strip_metadata(path):
    """Takes out where in whose source each node came from, most of a small file."""
    model = onnx.load(str(path), load_external_data=False)
    for message in [model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]:
        del message.metadata_props[:]
        message.doc_string = ""
    path.write_bytes(model.SerializeToString())


def torchscript(model, pixels, path, batch=True, opset=17, names=("pixel_values", "logits")):
    axes = {name: {0: "batch"} for name in names} if batch is True else None
    torch.onnx.export(model, (pixels if batch else pixels[:1],), str(path), dynamo=False, opset_version=opset,
                      input_names=names[:1], output_names=names[1:], dynamic_axes=axes)
    strip_metadata(path)


def dynamo(model, pixels, path, batch=True, opset=18, external=False):
    shapes = ({0: torch.export.Dim("batch")},) if batch is True else None
    torch.onnx.export(model, (pixels if batch else pixels[:1],), str(path), dynamo=True, opset_version=opset,
                      dynamic_shapes=shapes, external_data=external, verbose=False)
    strip_metadata(path)


def folder_for(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def transformers_model(attention, seed, **overrides):
    config = ViTConfig(**{**CONFIG, **overrides})
    model = ViTForImageClassification._from_config(config, attn_implementation=attention).eval()
    reference.randomize_weights(model, torch.Generator().manual_seed(seed))
    return model


def transformers_answers(model, pixels):
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(pixels, output_attentions=True)
    return out.logits, out.attentions


def describe(folder, model):
    model.config.save_pretrained(folder)
    side = model.config.image_size
    ViTImageProcessor(size=dict(height=side, width=side)).save_pretrained(folder)


def from_transformers(name, attention, export, seed, half=False, **overrides):
    folder = folder_for(name)
    model = transformers_model(attention, seed, **overrides)
    describe(folder, model)
    side = model.config.image_size
    pixels = reference.pictures((side, side), torch.Generator().manual_seed(seed))
    exported = Logits(model.half() if half else model)
    export(exported, pixels.half() if half else pixels, folder / "model.onnx")
    logits, attentions = transformers_answers(model.float(), pixels)
    reference.write(folder / "expected.json", pixels, logits, attentions, 1, "class")


def from_timm(name, architecture, export, seed, prefix, pooling, fused=True, config=True, **args):
    import timm
    from timm.models import save_for_hf
    folder = folder_for(name)
    model = timm.create_model(architecture, **{**TINY, **args}).eval()
    generator = torch.Generator().manual_seed(seed)
    reference.randomize_weights(model, generator)
    if config:
        save_for_hf(model, str(folder))
        for file in ("README.md", "model.safetensors", "pytorch_model.bin"):
            (folder / file).unlink(missing_ok=True)
    for block in model.blocks:
        block.attn.fused_attn = fused
    side = {**TINY, **args}["img_size"]
    pixels = reference.pictures((side, side), generator)
    export(model, pixels, folder / "model.onnx")
    logits, attentions = reference.timm_answers(model, pixels)
    reference.write(folder / "expected.json", pixels, logits, attentions, prefix, pooling)


def timm_onnx_export(model, pixels, path):
    """As `onnx_export.py` of timm does."""
    torchscript(model, pixels, path, names=("input0", "output0"))


def from_torchvision(name, export, seed):
    from torchvision.models import VisionTransformer
    folder = folder_for(name)
    model = VisionTransformer(16, 8, 2, 3, 24, 40, num_classes=5).eval()
    generator = torch.Generator().manual_seed(seed)
    reference.randomize_weights(model, generator)
    pixels = reference.pictures((16, 16), generator)
    export(model, pixels, folder / "model.onnx")
    found = []

    def with_weights(attention, args, kwargs):
        kwargs.update(need_weights=True, average_attn_weights=False)
        return args, kwargs

    for layer in model.encoder.layers:
        layer.self_attention.register_forward_pre_hook(with_weights, with_kwargs=True)
        layer.self_attention.register_forward_hook(lambda _m, _i, output: found.append(output[1].clone()))
    with torch.no_grad():
        logits = model(pixels)
    reference.write(folder / "expected.json", pixels, logits, found, 1, "class")


def untrained_layer_scale(name, seed):
    """LayerScale of 1e-9: the last block's attention changes no bit of the logits."""
    folder = folder_for(name)
    import timm
    from timm.models import save_for_hf
    model = timm.create_model("vit_tiny_patch16_224", **TINY, init_values=1e-9).eval()
    generator = torch.Generator().manual_seed(seed)
    reference.randomize_weights(model, generator)
    with torch.no_grad():
        for block in model.blocks:
            block.ls1.gamma.fill_(1e-12)
            block.ls2.gamma.fill_(1e-12)
    save_for_hf(model, str(folder))
    for file in ("README.md", "model.safetensors", "pytorch_model.bin"):
        (folder / file).unlink(missing_ok=True)
    pixels = reference.pictures((16, 16), generator)
    torchscript(model, pixels, folder / "model.onnx")
    logits, attentions = reference.timm_answers(model, pixels)
    reference.write(folder / "expected.json", pixels, logits, attentions, 1, "class")


def without_attention(name, model, seed):
    """A convolutional network, with the processor that transformers has for it."""
    folder = folder_for(name)
    generator = torch.Generator().manual_seed(seed)
    reference.randomize_weights(model.eval(), generator)
    model.config.save_pretrained(folder)
    ConvNextImageProcessorPil(size=dict(shortest_edge=32), crop_pct=0.875, resample=3).save_pretrained(folder)
    pixels = reference.pictures((32, 32), generator)
    torchscript(Logits(model).eval(), pixels, folder / "model.onnx")
    with torch.no_grad():
        logits = model.eval()(pixels).logits  # the exporter may have left it training
    assert (logits[0] - logits[1]).abs().max() > 0.1, logits
    numbers = dict(pixel_values=pixels.tolist(), logits=logits.tolist())
    (folder / "expected.json").write_text(json.dumps(numbers) + "\n")


def optimum():
    from optimum.exporters.onnx import main_export
    folder = folder_for("optimum")
    source = folder / "source"
    model = transformers_model("eager", 30)
    model.save_pretrained(source)
    ViTImageProcessor(size=dict(height=16, width=16)).save_pretrained(source)
    main_export(str(source), str(folder), task="image-classification")
    shutil.rmtree(source)
    pixels = reference.pictures((16, 16), torch.Generator().manual_seed(30))
    logits, attentions = transformers_answers(model, pixels)
    reference.write(folder / "expected.json", pixels, logits, attentions, 1, "class")


def main():
    one = dict(batch=False)
    with_options = lambda export, **options: lambda *args: export(*args, **options)
    from_transformers("torchscript_eager", "eager", torchscript, 0)
    from_transformers("torchscript_sdpa_one_image", "sdpa", with_options(torchscript, **one), 1)
    from_transformers("torchscript_opset_11", "eager", with_options(torchscript, opset=11), 2)
    from_transformers("torchscript_half", "eager", torchscript, 3, half=True)
    from_transformers("dynamo_sdpa", "sdpa", dynamo, 4)
    from_transformers("dynamo_one_image_external", "eager", with_options(dynamo, external=True, **one), 5,
                      intermediate_size=160)
    from_transformers("dynamo_opset_23_masked_attention", "sdpa", with_options(dynamo, opset=23), 6)
    from_transformers("dynamo_two_images", "sdpa", with_options(dynamo, batch="fixed"), 7)
    from_transformers("torchscript_two_images", "eager", with_options(torchscript, batch="fixed"), 8)
    from_timm("timm_names_registers", "vit_small_patch14_reg4_dinov2", timm_onnx_export, 10, 4, "class",
              fused=False, reg_tokens=3)
    from_timm("timm_fused_mean", "vit_medium_patch16_gap_240", torchscript, 11, 0, "patch mean")
    from_timm("timm_dynamo_distilled", "deit_tiny_distilled_patch16_224", dynamo, 12, 2, "class and distillation")
    from_timm("timm_opset_23_attention", "vit_tiny_patch16_224", with_options(dynamo, opset=23), 13, 1, "class")
    untrained_layer_scale("timm_untrained_layer_scale", 14)
    from_torchvision("torchvision_torchscript", torchscript, 20)
    from_torchvision("torchvision_dynamo", dynamo, 21)
    labels = {"id2label": {0: "cat", 1: "dog", 2: "car"}, "label2id": {"cat": 0, "dog": 1, "car": 2}}
    without_attention("resnet", ResNetForImageClassification(ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **labels)), 40)
    without_attention("convnext", ConvNextForImageClassification(ConvNextConfig(
        num_stages=2, hidden_sizes=[8, 16], depths=[1, 1], image_size=32, **labels)), 41)


if __name__ == "__main__":
    if sys.argv[1:] == ["optimum"]:
        optimum()
    else:
        main()
