"""Random networks of every family, for `.ci/full` and for whoever changes a family:

    pip install -r requirements.txt && python random_configs.py FOLDER COUNT SEED [NAME …]
    FAMILIES=FOLDER cargo test -p patchlight-import families_from_elsewhere -- --nocapture

COUNT checkpoints of each kind go to FOLDER, with `expected.json` as make.py writes it. Sizes, activations, biases,
layer scales, registers, poolings, image sizes, data types, files and preprocessing are drawn.
"""
import json
import pathlib
import random
import shutil
import sys
import warnings

import numpy as np
import timm
import torch
import transformers as hf
from timm.models import save_for_hf

sys.argv, arguments = sys.argv[:1], sys.argv[1:]
import make  # noqa: E402
import reference  # noqa: E402

ACTIVATIONS = ["gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_python", "quick_gelu", "silu", "swish",
               "relu", "gelu_accurate"]


def sizes(rng, square=False):
    patch = rng.choice([4, 7, 8, 14, 16])
    rows = rng.randint(1, 5)
    columns = rows if square or rng.random() < 0.6 else rng.randint(1, 5)
    return patch, [patch * rows, patch * columns]


def common(rng, square=False, hidden_of=None):
    heads = rng.choice([1, 2, 3, 4])
    hidden = heads * rng.choice([4, 6, 8, 16])
    patch, sides = sizes(rng, square)
    return dict(hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=rng.randint(1, 4),
                intermediate_size=rng.choice([7, 16, 40, 96]), image_size=sides if sides[0] != sides[1] else sides[0],
                patch_size=patch, hidden_act=rng.choice(ACTIVATIONS),
                layer_norm_eps=rng.choice([1e-12, 1e-6, 1e-5, 1e-3])), sides


def labels(rng):
    return dict(num_labels=rng.choice([1, 2, 3, 6, 11, 30]))


def some(rng, **options):
    """Each of the options, or not."""
    return {name: rng.choice(values) for name, values in options.items() if rng.random() < 0.6}


def plain(kind, config, *, registers=False, prefix=1, read="class", square=False, layered=False, **options):
    def draw(rng):
        fields, sides = common(rng, square)
        fields |= some(rng, qkv_bias=[True, False]) | labels(rng)
        fields |= some(rng, **options)
        return kind, config(**fields), sides, prefix, read, {}
    return draw


def dinov2(kind, config, registers):
    def draw(rng):
        fields, sides = common(rng)
        fields.pop("intermediate_size")
        fields |= labels(rng) | some(rng, qkv_bias=[True, False], layerscale_value=[1.0, 0.1], use_swiglu_ffn=[True, False],
                                     mlp_ratio=[1, 2, 3, 4])
        # Positions are of a square.
        patch = fields["patch_size"]
        fields["image_size"] = patch * rng.randint(2, 5)
        prefix = 1
        if registers:
            fields["num_register_tokens"] = rng.choice([1, 2, 4, 5])
            prefix += fields["num_register_tokens"]
        elif rng.random() < 0.5:
            fields["use_mask_token"] = rng.choice([True, False])
        if rng.random() < 0.4:
            sides = [fields["image_size"]] * 2
        return kind, config(**fields), sides, prefix, "class and mean", {}
    return draw


def towers(kind, config, vision, prefix, read, square=False):
    def draw(rng):
        fields, sides = common(rng, square)
        number = labels(rng)
        if rng.random() < 0.5:
            fields.pop("hidden_act")
        if kind is hf.Siglip2ForImageClassification:
            fields.pop("image_size")
            fields |= dict(num_patches=(sides[0] // fields["patch_size"]) ** 2)
        if vision == "siglip" and rng.random() < 0.5:
            fields["vision_use_head"] = rng.choice([True, False])
        return kind, config(vision_config=fields, text_config=make.TEXT, **number), sides, prefix, read, {}
    return draw


def beit(kind, config):
    def draw(rng):
        fields, sides = common(rng, square=True)
        fields |= labels(rng)
        fields |= some(rng, use_absolute_position_embeddings=[True, False], use_mean_pooling=[True, False],
                       layer_scale_init_value=[0.1, 1.0, 0.0], use_mask_token=[True, False])
        table = rng.choice([None, "use_relative_position_bias", "use_shared_relative_position_bias", "both"])
        for name in ("use_relative_position_bias", "use_shared_relative_position_bias"):
            if table in (name, "both"):
                fields[name] = True
        read = "patch mean" if fields.get("use_mean_pooling", True) else "class"
        return kind, config(**fields), sides, 1, read, {}
    return draw


KINDS = {
    "vit": plain(hf.ViTForImageClassification, hf.ViTConfig),
    "deit": plain(hf.DeiTForImageClassification, hf.DeiTConfig, prefix=2),
    "deit_teacher": plain(hf.DeiTForImageClassificationWithTeacher, hf.DeiTConfig, prefix=2,
                          read="class and distillation"),
    "msn": plain(hf.ViTMSNForImageClassification, hf.ViTMSNConfig),
    "ijepa": plain(hf.IJepaForImageClassification, hf.IJepaConfig, prefix=0, read="patch mean"),
    "siglip": towers(hf.SiglipForImageClassification, hf.SiglipConfig, "siglip", 0, "patch mean"),
    "siglip2": towers(hf.Siglip2ForImageClassification, hf.Siglip2Config, "siglip", 0, "patch mean", square=True),
    "clip": towers(hf.CLIPForImageClassification, hf.CLIPConfig, "clip", 1, "patch mean"),
    "metaclip2": towers(hf.MetaClip2ForImageClassification, hf.MetaClip2Config, "clip", 1, "patch mean"),
    "dinov2": dinov2(hf.Dinov2ForImageClassification, hf.Dinov2Config, False),
    "dinov2_registers": dinov2(hf.Dinov2WithRegistersForImageClassification, hf.Dinov2WithRegistersConfig, True),
    "beit": beit(hf.BeitForImageClassification, hf.BeitConfig),
    "data2vec": beit(hf.Data2VecVisionForImageClassification, hf.Data2VecVisionConfig),
}


def of_transformers(name, folder, rng):
    kind, config, sides, prefix, read, inputs = KINDS[name](rng)
    model = kind._from_config(config, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
    reference.randomize_weights(model, generator)
    way = rng.choice(["safetensors", "safetensors", "shards", "torch", "native", "half", "bfloat16"])
    if way in ("half", "bfloat16"):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.to(torch.float16 if way == "half" else torch.bfloat16).float())
    if way in ("torch", "native"):
        config.architectures = [kind.__name__]
        folder.mkdir(parents=True)
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    elif way == "shards":
        model.save_pretrained(folder, max_shard_size="20KB")
    elif way in ("half", "bfloat16"):
        model.to(torch.float16 if way == "half" else torch.bfloat16).save_pretrained(folder)
        model.float()
    else:
        model.save_pretrained(folder)
    processor = hf.ViTImageProcessor(size=dict(height=sides[0], width=sides[1]))
    processor.save_pretrained(folder)
    pixels = reference.pictures(tuple(sides), generator)
    inputs = dict(pixel_values=pixels)
    if name == "siglip2":
        patch = config.vision_config.patch_size
        count = [side // patch for side in sides]
        by_patch = pixels.reshape(2, 3, count[0], patch, count[1], patch).permute(0, 2, 4, 3, 5, 1)
        inputs = dict(pixel_values=by_patch.reshape(2, count[0] * count[1], -1),
                      pixel_attention_mask=torch.ones(2, count[0] * count[1], dtype=torch.int32),
                      spatial_shapes=torch.tensor([count] * 2))
    with torch.no_grad():
        out = model(**inputs, output_attentions=True)
    made = dict(kind=kind.__name__, saved=way, config=json.loads(config.to_json_string()))
    if read == "class and distillation":
        return folder, pixels, out.logits, out.attentions, prefix, read, made
    return folder, pixels, out.logits, out.attentions, prefix, read, made


def timm_arguments(rng, architecture, kind):
    heads = rng.choice([1, 2, 3, 4])
    patch, sides = sizes(rng)
    fields = dict(img_size=tuple(sides), patch_size=patch, embed_dim=heads * rng.choice([4, 8, 16]), num_heads=heads,
                  depth=rng.randint(1, 3), mlp_ratio=rng.choice([1, 2, 3, 2.6667]), num_classes=rng.choice([1, 2, 6, 30]))
    fields |= some(rng, init_values=[None, 1e-5, 0.1], qkv_bias=[True, False], norm_layer=["layernorm"] * (rng.random() < 0.1) or [None])
    if fields.get("norm_layer") is None:
        fields.pop("norm_layer", None)
    if kind == "VisionTransformer":
        fields |= some(rng, qk_norm=[True, False], proj_bias=[True, False], class_token=[True, True, False],
                       reg_tokens=[0, 1, 4], no_embed_class=[True, False], pre_norm=[True, False],
                       global_pool=["token", "avg", "map"], act_layer=["gelu", "gelu_tanh", "quick_gelu", "silu", "relu"],
                       fc_norm=[None, True, False], final_norm=[True, True, True, False], dynamic_img_size=[True, False],
                       pos_embed=["learn", "learn", "learn", "none"], scale_attn_norm=[True, False, False],
                       scale_mlp_norm=[True, False, False], pool_include_prefix=[True, False, False])
        fields = {name: value for name, value in fields.items()
                  if not (name in ("scale_attn_norm", "scale_mlp_norm", "pool_include_prefix") and rng.random() < 0.7)}
    elif kind == "Eva":
        fields |= some(rng, qkv_fused=[True, False], qk_norm=[True, False], swiglu_mlp=[True, False], scale_mlp=[True, False],
                       scale_attn_inner=[True, False], class_token=[True, True, False], num_reg_tokens=[0, 1, 4],
                       no_embed_class=[True, False], use_abs_pos_emb=[True, False], use_rot_pos_emb=[True, False],
                       rope_type=["cat", "dinov3"], rope_grid_indexing=["ij", "xy"], rope_temperature=[100.0, 10000.0],
                       rope_rotate_half=[True, False], rope_grid_offset=[0.0, 1.0], use_post_norm=[True, False, False],
                       use_pre_transformer_norm=[True, False], use_post_transformer_norm=[None, True, False],
                       use_fc_norm=[None, True, False], global_pool=["token", "avg", "map"],
                       attn_pool_num_heads=[heads], attn_pool_mlp_ratio=[2.0], dynamic_img_size=[True, False],
                       ref_feat_shape=[(3, 3), None], attn_only_layer_scale=[True, False])
    else:
        fields |= some(rng, swiglu_mlp=[True, False], scale_mlp=[True, False], use_abs_pos_emb=[True, False],
                       use_rel_pos_bias=[True, False], use_shared_rel_pos_bias=[True, False], use_fc_norm=[None, True, False],
                       global_pool=["token", "avg"])
    return fields


ARCHITECTURES = json.loads((make.HERE.parents[2] / "crates/import/src/families/timm/architectures.json").read_text())


def of_timm(kind, folder, rng):
    names = [name for name, (of, _) in ARCHITECTURES.items() if of == kind]
    architecture = rng.choice(names)
    arguments = timm_arguments(rng, architecture, kind)
    keep = rng.random()
    if keep < 0.4:  # Little but sizes.
        sized = ("img_size", "patch_size", "embed_dim", "num_heads", "depth", "mlp_ratio", "num_classes")
        arguments = {name: value for name, value in arguments.items() if name in sized}
    model = timm.create_model(architecture, **arguments).eval()
    generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
    reference.randomize_weights(model, generator)
    sides = list(arguments["img_size"])
    save_for_hf(model, str(folder), model_config=dict(pretrained_cfg=dict(input_size=[3, *sides])),
                safe_serialization=rng.choice([True, True, "both", False]))
    (folder / "README.md").unlink(missing_ok=True)
    pixels = reference.pictures(tuple(sides), generator)
    found, pool = [], []
    for block in model.blocks:
        parts = [part.attn for part in block.attns] if hasattr(block, "attns") else [getattr(block, "attn", block)]
        of_block = []
        found.append(of_block)
        for part in parts:
            part.fused_attn = False
            part.attn_drop.register_forward_hook(lambda _m, _i, output, kept=of_block: kept.append(output.clone()))
    if getattr(model, "attn_pool", None) is not None:
        def pooled(module, inputs, _):
            x = inputs[0]
            heads = lambda t: t.reshape(*t.shape[:2], module.num_heads, -1).transpose(1, 2)
            q, k = module.q_norm(heads(module.q(module.latent))), module.k_norm(heads(module.kv(x).chunk(2, -1)[0]))
            pool.append((q * module.scale @ k.transpose(-2, -1)).softmax(-1)[:, :, 0].double().numpy())
        model.attn_pool.register_forward_hook(pooled)
    with torch.no_grad():
        logits = model(pixels)
    prefix = getattr(model, "num_prefix_tokens", 1)
    read = {"token": "class", "avg": "patch mean"}.get(model.global_pool, model.global_pool)
    if hasattr(model, "head_dist"):
        read = "class and distillation"
    made = dict(kind=architecture, arguments={name: str(value) for name, value in arguments.items()}, pool=model.global_pool)
    return folder, pixels, logits, [torch.cat(of_block, 1) for of_block in found], prefix, read, made, pool


def start(tokens, prefix, read):
    if read == "class and distillation":
        vector = np.zeros(tokens)
        vector[:2] = 0.5
        return vector
    return ORIGINAL_START(tokens, prefix, read)


ORIGINAL_START = make.start
make.start = start


def main(folder, count, seed, *names):
    folder = pathlib.Path(folder)
    kinds = [*KINDS, "VisionTransformer", "Eva", "Beit"]
    refused = {}
    for name in names or kinds:
        for at in range(int(count)):
            rng = random.Random(f"{seed} {name} {at}")
            path = folder / f"{name}-{seed}-{at}"
            shutil.rmtree(path, ignore_errors=True)
            try:
                if name in KINDS:
                    *given, made = of_transformers(name, path, rng)
                    make.write(*given)
                else:
                    *given, made, pool = of_timm(name, path, rng)
                    if given[-1] not in ("class", "patch mean", "map", "class and distillation"):
                        (path / "unknown-pool").write_text(given[-1])
                        given[-1] = "class"
                    make.write(*given, None, pool[0] if pool else None)
                (path / "made.json").write_text(json.dumps(made, indent=1))
            except Exception as error:  # The library itself does not take such arguments.
                shutil.rmtree(path, ignore_errors=True)
                refused.setdefault(f"{name}: {type(error).__name__}: {str(error)[:150]}", []).append(at)
    for what, which in sorted(refused.items()):
        print(len(which), what)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    hf.logging.set_verbosity_error()
    hf.utils.logging.disable_progress_bar()
    main(*arguments)
