"""Tiny random ViTs of every kind that is imported from timm, and what timm itself answers for them.

    pip install -r requirements.txt && python make.py

Each folder is what timm's own `save_for_hf` writes, with `expected.json` beside it.
"""
import json
import pathlib
import shutil
import sys

import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import reference  # noqa: E402

TINY = dict(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, mlp_ratio=2, num_classes=5)
LABELS = ["n01440764", "Küche, offen", " odd ", "d", "e"]
CASES = {
    # name: architecture, arguments, how it is saved, dtype, pooling
    "class_token": ("vit_tiny_patch16_224", dict(), dict(), torch.float32, "class"),
    "heads_by_name": ("vit_tiny_patch16_224", dict(num_heads=None), dict(), torch.float32, "class"),
    "no_qkv_bias_float16": ("vit_small_patch16_224", dict(qkv_bias=False), dict(), torch.float16, "class"),
    "fc_norm": ("vit_medium_patch16_gap_240", dict(), dict(labels=True), torch.float32, "patch mean"),
    "mean_norm_first": ("vit_base_patch16_reg4_gap_256", dict(reg_tokens=2, fc_norm=False), dict(),
                        torch.float32, "patch mean"),
    "mean_with_class_token": ("vit_tiny_patch16_224", dict(global_pool="avg"), dict(), torch.float32, "patch mean"),
    "registers_layer_scale": ("vit_small_patch14_reg4_dinov2", dict(reg_tokens=3), dict(), torch.bfloat16, "class"),
    "wide_registers_with_positions": ("vit_small_patch16_224", dict(img_size=(16, 24), reg_tokens=1),
                                      dict(squash=True),                                      torch.float32, "class"),
    "deit3": ("deit3_small_patch16_224", dict(), dict(torch=True), torch.float32, "class"),
    "deit_distilled": ("deit_tiny_distilled_patch16_224", dict(), dict(), torch.float32, "class and distillation"),
    "tanh": ("vit_tiny_patch16_224", dict(act_layer="gelu_tanh"), dict(torch=True), torch.float16, "class"),
    "clip": ("vit_base_patch16_clip_quickgelu_224", dict(), dict(), torch.float32, "class"),
    "silu_without_biases": ("vit_tiny_patch16_224", dict(act_layer="silu", proj_bias=False, pre_norm=True), dict(wrapped=True),
                            torch.float32, "class"),
}


def make(name, architecture, args, saving, dtype, pooling, seed):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    args = {**TINY, **args}
    if args["num_heads"] is None:
        del args["num_heads"]
    model = timm.create_model(architecture, **args).eval()
    generator = torch.Generator().manual_seed(seed)
    reference.randomize_weights(model, generator)
    model.to(dtype)
    config = dict(label_names=LABELS) if saving.get("labels") else {}
    if saving.get("squash"):
        config["pretrained_cfg"] = dict(crop_mode="squash")
    save_for_hf(model, str(folder), model_config=config, safe_serialization=not saving.get("torch"))
    (folder / "README.md").unlink(missing_ok=True)
    if saving.get("wrapped"):  # as transformers' TimmWrapperForImageClassification names them
        weights = load_file(folder / "model.safetensors")
        save_file({f"timm_model.{name}": tensor for name, tensor in weights.items()}, folder / "model.safetensors")
    # What is stored in 16 bits is computed in 32: the service does the same.
    model = model.float()
    size = args["img_size"]
    pixels = reference.pictures(size if isinstance(size, tuple) else (size, size), generator)
    logits, attentions = reference.timm_answers(model, pixels)
    reference.write(folder / "expected.json", pixels, logits, attentions, model.num_prefix_tokens, pooling)


def resized(seed):
    """The same weights at another size, as timm's `set_input_size` resamples their positions."""
    for name, side in [("class_token", 24), ("deit3", 24)]:
        architecture, args, _, _, pooling = CASES[name]
        model = timm.create_model(architecture, **{**TINY, **args}).eval()
        folder = HERE / name
        weights = folder / "model.safetensors"
        if weights.exists():
            model.load_state_dict(load_file(weights))
        else:
            model.load_state_dict(torch.load(folder / "pytorch_model.bin", weights_only=True))
        model.set_input_size((side, side))
        pixels = reference.pictures((side, side), torch.Generator().manual_seed(seed))
        logits, attentions = reference.timm_answers(model, pixels)
        reference.write(folder / f"expected_{side}.json", pixels, logits, attentions, model.num_prefix_tokens, pooling)


def architectures():
    """What every function of timm's plain Vision Transformers makes, built without memory for weights."""
    activations = {"GELU": "Gelu", "GELUTanh": "GeluTanh", "QuickGELU": "QuickGelu", "SiLU": "Silu"}
    found = {}
    for name in timm.list_models(module="vision_transformer") + timm.list_models(module="deit"):
        model = timm.create_model(name, device="meta")
        block = model.blocks[0]
        kinds = [type(part).__name__ for part in (block, getattr(block, "attn", None), getattr(block, "mlp", None))]
        if kinds != ["Block", "Attention", "Mlp"]:
            found[name] = dict(plain=False, heads=0, activation="", epsilon=0, pool="")
            continue
        inner = [block.attn.q_norm, block.attn.norm, block.mlp.norm]
        plain = type(block.norm1).__name__ == "LayerNorm" and all(isinstance(n, torch.nn.Identity) for n in inner)
        found[name] = dict(plain=plain, heads=block.attn.num_heads, activation=activations[type(block.mlp.act).__name__],
                           epsilon=block.norm1.eps, pool=model.global_pool)
    lines = (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(found.items()))
    (HERE / "architectures.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    architectures()
    for seed, (name, case) in enumerate(CASES.items()):
        make(name, *case, seed)
    resized(100)
