"""Random exports of networks of every kind, for whoever changes how graphs are read:

    pip install -r requirements.txt && python random_exports.py FOLDER COUNT SEED [NAME …]
    EXPORTS=FOLDER cargo test -p patchlight-import exports_from_elsewhere -- --nocapture

COUNT exports of each network with exporter, opset, kind of attention and batch drawn; beside each graph what describes
it, and in `expected.json` inputs and logits, and what maps it should have.
"""
import json
import logging
import pathlib
import random
import shutil
import sys
import warnings

import timm
import torch
import transformers as hf
from timm.models import save_for_hf

sys.argv, arguments = sys.argv[:1], sys.argv[1:]
HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "networks"), str(HERE.parent / "families")]
import make as networks  # noqa: E402
import reference  # noqa: E402

SIDE = 64
VIT = dict(image_size=SIDE, patch_size=16, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
           intermediate_size=40, num_labels=6)
NO_MLP = {name: value for name, value in VIT.items() if name != "intermediate_size"}
TOWER = {name: value for name, value in VIT.items() if name != "num_labels"}
TEXT = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=10,
            max_position_embeddings=4)
TINY = dict(img_size=SIDE, patch_size=16, embed_dim=24, depth=2, num_heads=3, mlp_ratio=2, num_classes=6)
SWIN = dict(image_size=SIDE, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4, num_labels=6)
CELLS = dict(hidden_sizes=[8, 8, 12, 16], depths=[1, 1, 1, 1], num_labels=6)


def of(kind, config, maps="rollout"):
    return lambda attention: (kind._from_config(config(), attn_implementation=attention), maps)


def timm_(architecture, maps="evidence", **given):
    return lambda attention: (timm.create_model(architecture, **{"num_classes": 6, **given}), maps)


NETWORKS = {
    "vit": of(hf.ViTForImageClassification, lambda: hf.ViTConfig(**VIT)),
    "deit": of(hf.DeiTForImageClassification, lambda: hf.DeiTConfig(**VIT)),
    "dinov2": of(hf.Dinov2ForImageClassification, lambda: hf.Dinov2Config(**NO_MLP, mlp_ratio=2)),
    "dinov2_registers": of(hf.Dinov2WithRegistersForImageClassification, lambda: hf.Dinov2WithRegistersConfig(**NO_MLP, mlp_ratio=2)),
    "siglip": of(hf.SiglipForImageClassification, lambda: hf.SiglipConfig(vision_config=TOWER, text_config=TEXT, num_labels=6)),
    "clip": of(hf.CLIPForImageClassification, lambda: hf.CLIPConfig(vision_config=TOWER, text_config=TEXT, num_labels=6)),
    "beit": of(hf.BeitForImageClassification, lambda: hf.BeitConfig(**VIT, use_relative_position_bias=True)),
    "ijepa": of(hf.IJepaForImageClassification, lambda: hf.IJepaConfig(**VIT)),
    "msn": of(hf.ViTMSNForImageClassification, lambda: hf.ViTMSNConfig(**VIT)),
    "swin": of(hf.SwinForImageClassification, lambda: hf.SwinConfig(**SWIN), "evidence"),
    "swinv2": of(hf.Swinv2ForImageClassification, lambda: hf.Swinv2Config(**SWIN), "evidence"),
    "convnext": of(hf.ConvNextForImageClassification, lambda: hf.ConvNextConfig(**CELLS), "evidence"),
    "convnextv2": of(hf.ConvNextV2ForImageClassification, lambda: hf.ConvNextV2Config(**CELLS), "evidence"),
    "resnet": of(hf.ResNetForImageClassification, lambda: hf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=6), "evidence"),
    "mobilenet_v1": of(hf.MobileNetV1ForImageClassification, lambda: hf.MobileNetV1Config(
        image_size=SIDE, depth_multiplier=0.25, num_labels=6), "evidence"),
    "mobilenet_v2": of(hf.MobileNetV2ForImageClassification, lambda: hf.MobileNetV2Config(
        image_size=SIDE, depth_multiplier=0.25, num_labels=6), "evidence"),
    "mobilevit": of(hf.MobileViTForImageClassification, lambda: hf.MobileViTConfig(
        image_size=SIDE, hidden_sizes=[12, 12, 16], neck_hidden_sizes=[8, 8, 12, 12, 16, 16, 24], num_attention_heads=2,
        num_labels=6), "evidence"),
    "mobilevitv2": of(hf.MobileViTV2ForImageClassification, lambda: hf.MobileViTV2Config(
        image_size=SIDE, width_multiplier=0.25, num_labels=6), "evidence"),
    "efficientnet": of(hf.EfficientNetForImageClassification, lambda: hf.EfficientNetConfig(
        image_size=SIDE, width_coefficient=0.25, depth_coefficient=0.3, hidden_dim=64, num_labels=6), "evidence"),
    "regnet": of(hf.RegNetForImageClassification, lambda: hf.RegNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], groups_width=8, num_labels=6), "evidence"),
    "poolformer": of(hf.PoolFormerForImageClassification, lambda: hf.PoolFormerConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], num_labels=6), "evidence"),
    "timm_vit": timm_("vit_tiny_patch16_224", "rollout", **TINY),
    "timm_vit_mean": timm_("vit_base_patch16_siglip_gap_224", "rollout", **TINY),
    "timm_eva02": timm_("eva02_tiny_patch14_224", "rollout", **TINY),
    "timm_dinov3": timm_("vit_small_patch16_dinov3", "rollout", **dict(TINY, num_heads=2)),
    "timm_beit": timm_("beit_base_patch16_224", "rollout", **TINY),
    "timm_swin": timm_("swin_tiny_patch4_window7_224", img_size=SIDE, embed_dim=8, depths=(1, 1), num_heads=(2, 2), window_size=4),
    "timm_swinv2": timm_("swinv2_tiny_window8_256", img_size=SIDE, embed_dim=8, depths=(1, 1), num_heads=(2, 2), window_size=4),
    "timm_convnext": timm_("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 12, 16)),
    "timm_convnextv2": timm_("convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 8, 12, 16)),
    "timm_mobilenetv3": timm_("mobilenetv3_small_050"),
    "timm_mobilenetv4": timm_("mobilenetv4_conv_small_035"),
    "timm_efficientnet": timm_("test_efficientnet"),
    "timm_mobilevit": timm_("mobilevit_xxs"),
    "timm_mobilevitv2": timm_("mobilevitv2_050"),
    "timm_resnet": timm_("test_resnet"),
    "timm_regnet": timm_("regnetx_002"),
}


def export(model, pixels, path, rng):
    exporter = rng.choice(["script", "script", "dynamo"])
    opset = rng.choice([13, 14, 16, 17, 18, 20] if exporter == "script" else [18, 18, 20, 21, 23])
    batch = rng.choice(["dynamic", "dynamic", "one", "fixed"])
    names = rng.choice([("pixel_values", "logits"), ("input", "output"), ("input0", "output0")])
    example = dict(dynamic=pixels, one=pixels[:1], fixed=torch.cat([pixels, pixels])[:rng.choice([2, 4])])[batch]
    options = dict(opset_version=opset, input_names=names[:1], output_names=names[1:])
    if exporter == "dynamo":
        shapes = ({0: torch.export.Dim("batch")},) if batch == "dynamic" else None
        torch.onnx.export(model, (example,), str(path), dynamo=True, dynamic_shapes=shapes, external_data=False,
                          verbose=False, **options)
    else:
        axes = {name: {0: "batch"} for name in names} if batch == "dynamic" else None
        torch.onnx.export(model, (example,), str(path), dynamo=False, dynamic_axes=axes, **options)
    return dict(exporter=exporter, opset=opset, batch=batch, names=names)


def make(name, folder, rng):
    attention = rng.choice(["eager", "sdpa"]) if name in list(NETWORKS)[:9] else "eager"
    model, maps = NETWORKS[name](attention)
    model.eval()
    generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
    networks.randomize(model, generator)
    pixels = reference.pictures((SIDE, SIDE), generator)
    folder.mkdir(parents=True)
    if isinstance(model, hf.PreTrainedModel):
        model.config.save_pretrained(folder)
        hf.ViTImageProcessor(size=dict(height=SIDE, width=SIDE)).save_pretrained(folder)
        whole = networks.logits_of(model)
    else:
        save_for_hf(model, str(folder), model_config=dict(pretrained_cfg=dict(input_size=[3, SIDE, SIDE])))
        for file in ("README.md", "model.safetensors", "pytorch_model.bin"):
            (folder / file).unlink(missing_ok=True)
        whole = model
    whole.eval()
    with torch.no_grad():
        logits = whole(pixels)
    how = export(whole, pixels, folder / "model.onnx", rng)
    (folder / "expected.json").write_text(json.dumps(dict(
        pixel_values=pixels.flatten(1).tolist(), logits=logits.tolist(), maps=maps, made=dict(how, attention=attention))))


def main(folder, count, seed, *names):
    folder, failed = pathlib.Path(folder), {}
    for name in names or NETWORKS:
        for at in range(int(count)):
            rng = random.Random(f"{seed} {name} {at}")
            path = folder / f"{name}-{seed}-{at}"
            shutil.rmtree(path, ignore_errors=True)
            try:
                make(name, path, rng)
            except Exception as error:  # The exporter itself gives up.
                shutil.rmtree(path, ignore_errors=True)
                failed.setdefault(f"{name}: {type(error).__name__}: {str(error)[:120]}", []).append(at)
    for what, which in failed.items():
        print(len(which), what)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    hf.utils.logging.disable_progress_bar()
    main(*arguments)
