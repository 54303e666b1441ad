"""What libraries answer for pictures, through their own pipelines from the file to the scores.

    pip install -r requirements.txt && python make.py

Tiny random models and pictures of every kind: those of `models/samples`, those of the decoder's
goldens, and some of odd sizes made here. Each library opens the file with Pillow, turns it upright
as `transformers.image_utils.load_image` does, and prepares it with its own processor or transform.
`expected.json` has scores (softmax, or sigmoid for the multi-label model) and the rollout in float64.

Left out are pictures of 16-bit grey, of which Pillow makes white, and damaged ones, of which every decoder makes
something else.
"""
import json
import pathlib
import shutil
import sys

import numpy as np
import timm
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config
from timm.models import save_for_hf
from torchvision.models import VisionTransformer
from torchvision.transforms._presets import ImageClassification
import transformers as hf
from transformers import (DeiTConfig, DeiTForImageClassificationWithTeacher, DeiTImageProcessorPil, ViTConfig,
                          ViTForImageClassification, ViTImageProcessor, ViTImageProcessorPil)

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE.parent))
import reference  # noqa: E402

SIZES = dict(image_size=112, patch_size=16, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
             intermediate_size=48, num_labels=8)


def randomize_weights(model, generator):
    """Weights with which scores differ from picture to picture and attention is far from uniform."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            fan_in = p[0].numel() if p.dim() > 1 else 1
            fan_in *= 16 if "position_bias" in name else 1
            p.copy_(torch.randn(p.shape, generator=generator) * (0.1 if p.dim() == 1 else 0.5 / fan_in ** 0.5))
            if p.dim() == 1 and name.endswith("weight"):
                p.add_(1)


TOWER = {name: value for name, value in SIZES.items() if name != "num_labels"}
TEXT = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=10,
            max_position_embeddings=4)
SQUARE = dict(height=112, width=112)
SHORTEST = dict(size=dict(shortest_edge=128), crop_size=SQUARE)
# name: class, configuration, processor's class and its fields, tokens before the patches, what is read
FAMILIES = {
    "siglip": (hf.SiglipForImageClassification, lambda: hf.SiglipConfig(vision_config=TOWER, text_config=TEXT, num_labels=8),
               "SiglipImageProcessor", dict(size=SQUARE), 0, "patch mean"),
    "clip": (hf.CLIPForImageClassification, lambda: hf.CLIPConfig(vision_config=TOWER, text_config=TEXT, num_labels=8),
             "CLIPImageProcessor", SHORTEST, 1, "patch mean"),
    "dinov2": (hf.Dinov2WithRegistersForImageClassification,
               lambda: hf.Dinov2WithRegistersConfig(**dict(SIZES, image_size=160), mlp_ratio=2, num_register_tokens=4),
               "BitImageProcessor", SHORTEST, 5, "class and mean"),
    "beit": (hf.BeitForImageClassification, lambda: hf.BeitConfig(**SIZES, use_relative_position_bias=True),
             "BeitImageProcessor", dict(size=SQUARE, resample=1, do_center_crop=False), 1, "patch mean"),
    "msn": (hf.ViTMSNForImageClassification, lambda: hf.ViTMSNConfig(**SIZES),
            "ViTImageProcessor", dict(size=SQUARE, do_rescale=False), 1, "class"),
    "ijepa": (hf.IJepaForImageClassification, lambda: hf.IJepaConfig(**SIZES),
              "ViTImageProcessor", dict(size=SQUARE, resample=0), 0, "patch mean"),
}


def odd_pictures():
    """Waves and edges in sizes that nothing divides."""
    for name, (width, height), options in [
        ("odd-331x501.jpg", (331, 501), dict(quality=80)),
        ("wide-641x37.jpg", (641, 37), dict(quality=75, subsampling=0)),
        ("tall-37x641.png", (37, 641), dict()),
        ("small-5x7.png", (5, 7), dict()),
    ]:
        y, x = np.mgrid[:height, :width]
        waves = [np.sin(x / 9 + y / 23), np.cos(x / 31 - y / 7), np.sign(np.sin((x + 2 * y) / 40))]
        Image.fromarray((127.5 * (1 + np.stack(waves, -1))).astype(np.uint8)).save(HERE / name, **options)


def pictures():
    folders = [ROOT / "models/samples", ROOT / "tests/goldens/pillow/decode", HERE]
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix not in {".jpg", ".png", ".webp", ".gif"} or ".expected." in path.name or "-cut" in path.name:
                continue
            try:
                with Image.open(path) as picture:
                    if picture.mode.startswith("I"):
                        continue
                    upright = ImageOps.exif_transpose(picture).convert("RGB")
            except (OSError, SyntaxError):
                continue  # damaged, too
            # Processors of transformers 5 that convert to RGB themselves would paint this color white.
            upright.info.pop("transparency", None)
            yield str(path.relative_to(ROOT)), upright


def answers(scores, attentions, prefix, pooling):
    attentions = torch.stack(list(attentions), 1).double().numpy()
    if pooling == "class and mean":
        vectors = [reference.start_vector(attentions.shape[-1], prefix, read) for read in ("class", "patch mean")]
        start = sum(vectors) / 2
    else:
        start = reference.start_vector(attentions.shape[-1], prefix, pooling)
    map_ = reference.rollout(attentions[0], np.mean, 0, start)[prefix:]
    short = lambda values: [round(float(value), 6) for value in values]
    return dict(scores=short(scores[0]), rollout=short(map_))


def of_transformers(name, model, processors, prefix, pooling, activation):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    processors[0].save_pretrained(folder)
    model.set_attn_implementation("eager")

    def answer(processor, picture):
        with torch.no_grad():
            out = model(processor(picture, return_tensors="pt")["pixel_values"], output_attentions=True)
        return answers(activation(out.logits.double()), out.attentions, prefix, pooling)
    return {f"{name}/{type(processor).__name__}": lambda picture, p=processor: answer(p, picture)
            for processor in processors}


def of_timm(name, generator):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    architecture, own, prefix, pooling = {
        "timm": ("vit_small_patch16_224", dict(crop_pct=0.9), 1, "class"),
        "timm_eva02": ("eva02_tiny_patch14_224", dict(crop_pct=1.0, crop_mode="border", interpolation="lanczos"), 1, "patch mean"),
        "timm_dinov3": ("vit_small_patch16_dinov3", dict(crop_pct=0.95, crop_mode="squash", interpolation="box"), 5, "patch mean"),
    }[name]
    sides = (96, 128) if name == "timm_dinov3" else (112, 112)
    own["input_size"] = (3, *sides)
    model = timm.create_model(architecture, img_size=sides, patch_size=16, embed_dim=24, depth=2, num_heads=3, mlp_ratio=2,
                              num_classes=8).eval()
    randomize_weights(model, generator)
    save_for_hf(model, str(folder), safe_serialization=True, model_config=dict(pretrained_cfg=own))
    for file in ("README.md",):
        (folder / file).unlink(missing_ok=True)
    config = {**resolve_model_data_config(model), **own}
    transform = create_transform(**config, is_training=False)

    def answer(picture):
        logits, attentions = reference.timm_answers(model, transform(picture)[None])
        for block in model.blocks:
            block.attn.attn_drop._forward_hooks.clear()
        return answers(logits.double().softmax(-1), attentions, prefix, pooling)
    return {name: answer}


def of_torchvision(name, generator):
    """The transforms of `ViT_B_32_Weights.IMAGENET1K_V1`."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model = VisionTransformer(224, 32, 2, 2, 16, 32, num_classes=8).eval()
    randomize_weights(model, generator)
    half = {name: tensor.half() for name, tensor in model.state_dict().items()}
    save_file(half, folder / "weights.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in half.items()})
    transform = ImageClassification(crop_size=224)
    found = []

    def with_weights(attention, args, kwargs):
        kwargs.update(need_weights=True, average_attn_weights=False)
        return args, kwargs
    for layer in model.encoder.layers:
        layer.self_attention.register_forward_pre_hook(with_weights, with_kwargs=True)
        layer.self_attention.register_forward_hook(lambda _m, _i, output: found.append(output[1]))

    def answer(picture):
        found.clear()
        with torch.no_grad():
            logits = model(transform(picture)[None])
        return answers(logits.double().softmax(-1), found, 1, "class")
    return {name: answer}


def of_families():
    for seed, (name, (kind, config, processor, fields, prefix, pooling)) in enumerate(FAMILIES.items()):
        model = kind(config()).eval()
        randomize_weights(model, torch.Generator().manual_seed(seed + 20))
        processors = [getattr(hf, processor + end)(**fields) for end in ("", "Pil")]
        yield of_transformers(name, model, processors, prefix, pooling, lambda logits: logits.softmax(-1))
    for name in ("timm_eva02", "timm_dinov3"):
        yield of_timm(name, torch.Generator().manual_seed(7))


def main():
    generator = torch.Generator().manual_seed(0)
    odd_pictures()
    vit = ViTForImageClassification(ViTConfig(**SIZES)).eval()
    deit = DeiTForImageClassificationWithTeacher(
        DeiTConfig(**SIZES, problem_type="multi_label_classification")).eval()
    randomize_weights(vit, generator)
    randomize_weights(deit, generator)
    size = dict(height=112, width=112)
    libraries = {
        **of_transformers("vit", vit, [ViTImageProcessor(size=size), ViTImageProcessorPil(size=size)], 1, "class",
                          lambda logits: logits.softmax(-1)),
        **of_transformers("deit", deit, [DeiTImageProcessorPil(size=dict(height=128, width=128), crop_size=size)],
                          2, "class and distillation", torch.sigmoid),
        **of_timm("timm", generator),
        **of_torchvision("torchvision", generator),
    }
    for of_family in of_families():
        libraries |= of_family
    expected = {library: {path: answer(picture) for path, picture in pictures()} for library, answer in libraries.items()}
    (HERE / "expected.json").write_text(json.dumps(expected, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
