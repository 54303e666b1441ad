"""Tiny random networks of every family that is imported beside the plain ViTs, and what transformers and timm
themselves answer for them.

    pip install -r requirements.txt && python make.py [NAME …]

Each folder is a checkpoint as the library saves it, with `expected.json` beside it: random inputs, logits, the
rollout of every head fusion and start (reference.py), from the attention probabilities that the library computed, and
where a mean is read the evidence of the best labels in float64, from what a hook saw enter the pooling:

    φ_c[j] = ⟨x_j, u_c⟩ / P      x_j the patches' states there, u_c the classifier's row; where the mean is
                                 normalised afterwards, the row through that normalisation, its scale frozen
"""
import json
import pathlib
import shutil
import sys

import numpy as np
import timm
import torch
import transformers as hf
from timm.models import save_for_hf

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parents[2] / "models"))
import reference  # noqa: E402
import text_embeddings  # noqa: E402

TINY = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40, image_size=16,
            patch_size=8, num_labels=6)
VISION = {name: value for name, value in TINY.items() if name != "num_labels"}
NO_MLP = {name: value for name, value in TINY.items() if name != "intermediate_size"}
TEXT = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=10,
            max_position_embeddings=4)
SQUARE = dict(height=16, width=16)
SIGLIP = lambda: hf.SiglipImageProcessor(size=SQUARE)
SHORTEST = dict(size=dict(shortest_edge=18), crop_size=SQUARE)

# name: the model's class, its configuration, its image processor, tokens before the patches, what is read
TRANSFORMERS = {
    "siglip": (hf.SiglipForImageClassification,
               lambda: hf.SiglipConfig(vision_config=VISION, text_config=TEXT, num_labels=6), SIGLIP, 0, "patch mean"),
    "siglip2": (hf.Siglip2ForImageClassification,
                lambda: hf.Siglip2Config(
                    vision_config=dict(VISION, num_patches=4, vision_use_head=False), text_config=TEXT, num_labels=6),
                SIGLIP, 0, "patch mean"),
    "clip": (hf.CLIPForImageClassification,
             lambda: hf.CLIPConfig(vision_config=VISION, text_config=TEXT, num_labels=6),
             lambda: hf.CLIPImageProcessor(**SHORTEST), 1, "patch mean"),
    "dinov2": (hf.Dinov2ForImageClassification, lambda: hf.Dinov2Config(**dict(NO_MLP, image_size=40), mlp_ratio=2),
               lambda: hf.BitImageProcessor(**SHORTEST), 1, "class and mean"),
    "dinov2_gated": (hf.Dinov2ForImageClassification,
                     lambda: hf.Dinov2Config(**NO_MLP, mlp_ratio=2, use_swiglu_ffn=True),
                     lambda: hf.BitImageProcessor(**SHORTEST), 1, "class and mean"),
    "dinov2_registers": (hf.Dinov2WithRegistersForImageClassification,
                         lambda: hf.Dinov2WithRegistersConfig(**dict(NO_MLP, image_size=40), mlp_ratio=2,
                                                              num_register_tokens=3),
                         lambda: hf.BitImageProcessor(**SHORTEST), 4, "class and mean"),
    "msn": (hf.ViTMSNForImageClassification, lambda: hf.ViTMSNConfig(**TINY),
            lambda: hf.ViTImageProcessor(size=SQUARE), 1, "class"),
    "ijepa": (hf.IJepaForImageClassification, lambda: hf.IJepaConfig(**TINY),
              lambda: hf.ViTImageProcessor(size=SQUARE), 0, "patch mean"),
    "beit": (hf.BeitForImageClassification, lambda: hf.BeitConfig(**TINY, use_relative_position_bias=True),
             lambda: hf.BeitImageProcessor(size=SQUARE, crop_size=SQUARE), 1, "patch mean"),
    "beit_shared_class_token": (hf.BeitForImageClassification,
                                lambda: hf.BeitConfig(**TINY, use_shared_relative_position_bias=True,
                                                      use_mean_pooling=False, use_absolute_position_embeddings=True),
                                lambda: hf.BeitImageProcessor(size=SQUARE, crop_size=SQUARE), 1, "class"),
    "beit_two_tables": (hf.BeitForImageClassification,
                        lambda: hf.BeitConfig(**TINY, use_relative_position_bias=True,
                                              use_shared_relative_position_bias=True),
                        lambda: hf.BeitImageProcessor(size=SQUARE, crop_size=SQUARE), 1, "patch mean"),
    "data2vec": (hf.Data2VecVisionForImageClassification,
                 lambda: hf.Data2VecVisionConfig(**TINY, use_relative_position_bias=True),
                 lambda: hf.BeitImageProcessor(size=SQUARE, crop_size=SQUARE), 1, "patch mean"),
}

# name: the model's class, its configuration, its image processor; texts classify
ZERO_SHOT = {
    "clip_texts": (hf.CLIPModel, lambda: hf.CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=20),
                   lambda: hf.CLIPImageProcessor(**SHORTEST)),
    "siglip_texts": (hf.SiglipModel, lambda: hf.SiglipConfig(vision_config=VISION, text_config=dict(TEXT, hidden_size=24,
                                                                                                   projection_size=24)),
                     SIGLIP),
}

SMALL = dict(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=3, mlp_ratio=2, num_classes=6)
WIDE = dict(SMALL, img_size=(16, 24), num_heads=2)
# name: architecture, arguments, what is read
TIMM = {
    "timm_siglip": ("vit_base_patch16_siglip_224", SMALL, "map"),
    "timm_siglip2_mean": ("vit_base_patch16_siglip_gap_224", SMALL, "patch mean"),
    "timm_dinov2_giant": ("vit_giant_patch14_dinov2", SMALL, "class"),
    "timm_qk_norm": ("vit_tiny_patch16_224", dict(SMALL, qk_norm=True), "class"),
    "timm_post_norm": ("vit_base_patch16_rpn_224", SMALL, "patch mean"),
    "timm_parallel_scaling": ("vit_large_patch14_xp_224", dict(SMALL, norm_layer="layernorm"), "class"),
    "timm_parallel_things": ("vit_small_patch16_18x2_224", dict(SMALL, init_values=0.1), "class"),
    "timm_beit3": ("beit3_base_patch16_224", SMALL, "patch mean"),
    "timm_beit": ("beit_base_patch16_224", SMALL, "patch mean"),
    "timm_beitv2_wide_class_token": ("beitv2_base_patch16_224", dict(WIDE, global_pool="token"), "class"),
    "timm_eva": ("eva_giant_patch14_224", dict(SMALL, init_values=0.1), "patch mean"),
    "timm_eva02": ("eva02_base_patch14_448", WIDE, "patch mean"),
    "timm_eva02_class_token": ("eva02_tiny_patch14_336", dict(WIDE, global_pool="token"), "class"),
    "timm_eva02_post_norm": ("eva02_enormous_patch14_clip_224", WIDE, "class"),
    "timm_dinov3": ("vit_small_patch16_dinov3", WIDE, "patch mean"),
    "timm_dinov3_gated_class_token": ("vit_small_plus_patch16_dinov3", dict(WIDE, global_pool="token"), "class"),
    "timm_pe": ("vit_pe_core_base_patch16_224", WIDE, "map"),
    "timm_rms_norm": ("test_vit4", SMALL, "patch mean"),
    "timm_map_of_patches": ("vit_so150m_patch16_reg4_map_256", SMALL, "map"),
    "timm_rotation_of_each_head": ("vit_small_patch16_rope_mixed_ape_224", WIDE, "class"),
}


# In the order in which they were first made.
SEEDS = {name: seed for seed, name in enumerate(
    "siglip siglip2 clip dinov2 dinov2_gated dinov2_registers msn ijepa beit beit_shared_class_token"
    " data2vec timm_siglip timm_siglip2_mean timm_dinov2_giant timm_qk_norm timm_post_norm"
    " timm_parallel_scaling timm_parallel_things timm_beit3 timm_beit timm_beitv2_wide_class_token"
    " timm_eva timm_eva02 timm_eva02_class_token timm_eva02_post_norm timm_dinov3"
    " timm_dinov3_gated_class_token timm_pe clip_texts siglip_texts timm_rms_norm timm_map_of_patches"
    " timm_rotation_of_each_head beit_two_tables".split())}


class Seen:
    """What entered or left modules, in float64."""

    def __init__(self):
        self.values = {}

    def watch(self, name, module, entering=True):
        def hook(_, inputs, output):
            value = inputs[0] if entering else output
            value = value if isinstance(value, torch.Tensor) else value[0]
            self.values[name] = value.detach().double().numpy()
        module.register_forward_hook(hook)


def array(parameter):
    return parameter.detach().double().numpy()


def best_rows(head, logits):
    best = np.argsort(-logits, kind="stable")[:min(5, len(logits))]
    rows = np.vstack([array(head.weight)[best], array(head.weight).mean(0)])
    biases = np.append(array(head.bias)[best], array(head.bias).mean())
    return best, rows, biases, np.append(logits[best], logits.mean())


def mean_evidence(head, logits, states, after=None):
    """Of one picture; states [patches, hidden] are what the mean is taken of, `after` a LayerNorm of the mean."""
    best, rows, biases, targets = best_rows(head, logits)
    if after is not None:
        mean = states.mean(0)
        deviation = np.sqrt(mean.var() + after.eps)
        biases = biases + rows @ array(after.bias)
        rows = rows * array(after.weight)
        rows = (rows - rows.mean(1, keepdims=True)) / deviation
    patches = rows @ states.T / len(states)
    assert np.abs(patches.sum(1) + biases - targets).max() < 1e-4, (patches.sum(1) + biases, targets)
    return dict(patches=patches.tolist(), rest=biases.tolist(), classes=best.tolist())


def class_and_mean_evidence(model, seen, attentions, logits, picture, prefix):
    """DINOv2's: the class token's part as in ../transformers/make.py, the mean's as above."""
    network, head = model.base_model, model.classifier
    best, rows, biases, targets = best_rows(head, logits)
    hidden, norm = network.layernorm.weight.shape[0], network.layernorm
    states = seen["norm"][picture]
    deviation = np.sqrt(states[0].var() + norm.eps)
    normed = (states - states.mean(-1, keepdims=True)) / np.sqrt(states.var(-1, keepdims=True) + norm.eps)
    normed = normed * array(norm.weight) + array(norm.bias)
    patches, rest = [], []
    for row, bias, target in zip(rows, biases, targets):
        of_class, of_mean = row[:hidden], row[hidden:]

        def into_logit(vector):
            return (vector - vector.mean(-1, keepdims=True)) / deviation * array(norm.weight) @ of_class
        shares = np.zeros(attentions.shape[-1])
        others = into_logit(seen["embedding"][picture, 0]) + array(norm.bias) @ of_class + bias
        for layer, block in enumerate(blocks_of(network)):
            scale = array(block.layer_scale1.lambda1)
            out = block.attention.o_proj
            values = seen[f"value.{layer}"][picture]
            size = values.shape[-1] // attentions.shape[1]
            for head_at in range(attentions.shape[1]):
                columns = slice(head_at * size, (head_at + 1) * size)
                weighted = attentions[layer, head_at, 0][:, None] * values[:, columns]
                shares += into_logit(weighted @ array(out.weight)[:, columns].T * scale)
            others += into_logit(array(out.bias) * scale) + into_logit(seen[f"mlp.{layer}"][picture, 0])
        own = shares[prefix:] + normed[prefix:] @ of_mean / len(states[prefix:])
        others += shares[:prefix].sum()
        assert abs(own.sum() + others - target) < 1e-4, (own.sum() + others, target)
        patches.append(own.tolist())
        rest.append(others)
    return dict(patches=patches, rest=rest, classes=best.tolist())


def blocks_of(network):
    return network.layers if hasattr(network, "layers") else network.encoder.layer


def start(tokens, prefix, read):
    vector = np.zeros(tokens)
    if read == "class":
        vector[0] = 1
    else:
        vector[prefix:] = (0.5 if read == "class and mean" else 1) / (tokens - prefix)
        vector[0] += 0.5 if read == "class and mean" else 0
    return vector


def write(folder, pixels, logits, attentions, prefix, read, evidence=None, pool=None):
    """attentions: one tensor [pictures, heads, n, n] a block; pool: what a learned query reads [pictures, heads, n]"""
    attentions = torch.stack(list(attentions), 1).double().numpy()
    assert np.allclose(attentions.sum(-1), 1, atol=1e-5)

    def rollouts(fuse):
        for picture, of_picture in enumerate(attentions):
            first = start(of_picture.shape[-1], prefix, read)
            if pool is not None:
                first = fuse(pool[picture], axis=0)
                first = first / first.sum()
                # Where the query reads the patches alone.
                first = np.pad(first, (of_picture.shape[-1] - len(first), 0))
            yield [reference.rollout(of_picture, fuse, k, first).tolist() for k in range(len(of_picture))]

    expected = {
        "pixel_values": pixels.flatten(1).tolist(),
        "logits": logits.tolist(),
        "rollout_by_start": {name: list(rollouts(fuse)) for name, fuse in reference.FUSIONS.items()},
    }
    if evidence is not None:
        expected["evidence"] = evidence
    short = json.loads(json.dumps(expected, default=float), parse_float=lambda s: round(float(s), 9))
    (folder / "expected.json").write_text(json.dumps(short) + "\n")


def of_transformers(name, seed):
    kind, config, processor, prefix, read = TRANSFORMERS[name]
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model = kind._from_config(config(), attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    reference.randomize_weights(model, generator)
    model.save_pretrained(folder)
    processor().save_pretrained(folder)
    pixels = reference.pictures((16, 16), generator)
    seen, network = Seen(), model.base_model
    mean_of = None
    if read == "class and mean":
        seen.watch("norm", network.layernorm)
        seen.watch("embedding", network.embeddings, entering=False)
        for at, block in enumerate(blocks_of(network)):
            seen.watch(f"value.{at}", block.attention.v_proj, entering=False)
            seen.watch(f"mlp.{at}", block.layer_scale2, entering=False)
    elif read == "patch mean" and hasattr(network, "pooler") and network.pooler is not None and prefix:
        seen.watch("states", network.pooler)
        mean_of = network.pooler.layernorm
    elif read == "patch mean":
        norm = {"siglip": "vision_model.post_layernorm", "siglip2": "vision_model.post_layernorm",
                "clip": "vision_model.encoder", "ijepa": "ijepa.layernorm"}[name]
        seen.watch("states", model.get_submodule(norm), entering=False)
    inputs = dict(pixel_values=pixels)
    if name == "siglip2":
        by_patch = pixels.reshape(2, 3, 2, 8, 2, 8).permute(0, 2, 4, 3, 5, 1).reshape(2, 4, -1)
        inputs = dict(pixel_values=by_patch, pixel_attention_mask=torch.ones(2, 4, dtype=torch.int32),
                      spatial_shapes=torch.tensor([[2, 2]] * 2))
    with torch.no_grad():
        out = model(**inputs, output_attentions=True)
    evidence = None
    if read == "class and mean":
        attentions = torch.stack(out.attentions, 1).double().numpy()
        evidence = [class_and_mean_evidence(model, seen.values, a, z, picture, prefix)
                    for picture, (a, z) in enumerate(zip(attentions, out.logits.double().numpy()))]
    elif read == "patch mean":
        evidence = [mean_evidence(model.classifier, z, states[prefix:], mean_of)
                    for z, states in zip(out.logits.double().numpy(), seen.values["states"])]
    write(folder, pixels, out.logits, out.attentions, prefix, read, evidence)


def of_timm(name, seed):
    architecture, arguments, read = TIMM[name]
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model = timm.create_model(architecture, **arguments).eval()
    generator = torch.Generator().manual_seed(seed)
    reference.randomize_weights(model, generator)
    size = arguments["img_size"]
    sides = list(size) if isinstance(size, tuple) else [size, size]
    # Networks that take any size are saved with that of their function.
    save_for_hf(model, str(folder), model_config=dict(pretrained_cfg=dict(input_size=[3, *sides])))
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
    seen = Seen()
    normed_after = isinstance(getattr(model, "fc_norm", None), torch.nn.LayerNorm)
    if read == "patch mean":
        seen.watch("states", model.norm, entering=False)
    if read == "map":
        def pooled(module, inputs, _):
            x = inputs[0]
            heads = lambda t: t.reshape(*t.shape[:2], module.num_heads, -1).transpose(1, 2)
            q, k = heads(module.q(module.latent)), heads(module.kv(x).chunk(2, -1)[0])
            pool.append((q * module.scale @ k.transpose(-2, -1)).softmax(-1)[:, :, 0].double().numpy())
        model.attn_pool.register_forward_hook(pooled)
    with torch.no_grad():
        logits = model(pixels)
    prefix = model.num_prefix_tokens if hasattr(model, "num_prefix_tokens") else 1
    evidence = None
    # The formula is worked for LayerNorm.
    if read == "patch mean" and (normed_after or isinstance(model.fc_norm, torch.nn.Identity)):
        after = model.fc_norm if normed_after else None
        evidence = [mean_evidence(model.head, z, states[prefix:], after)
                    for z, states in zip(logits.double().numpy(), seen.values["states"])]
    write(folder, pixels, logits, [torch.cat(of_block, 1) for of_block in found], prefix, read, evidence,
          pool[0] if pool else None)


def of_texts(name, seed):
    kind, config, processor = ZERO_SHOT[name]
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model = kind._from_config(config(), attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(seed)
    reference.randomize_weights(model, generator)
    model.logit_scale.data.fill_(2.0)
    model.save_pretrained(folder)
    processor().save_pretrained(folder)
    ids = torch.randint(0, TEXT["vocab_size"], (7, TEXT["max_position_embeddings"]), generator=generator)
    labels = ["tabby", "Äpfel, 2", "a\nb", "d", "e", "f", "g"]
    text_embeddings.save(folder / "texts.safetensors", model, labels, text_embeddings.embeddings(model, input_ids=ids))
    pixels = reference.pictures((16, 16), generator)
    pool = []
    if name == "siglip_texts":
        def pooled(module, inputs, _):
            attention, x = module.attention, inputs[0]
            _, weights = attention(module.probe.repeat(len(x), 1, 1), x, x, average_attn_weights=False)
            pool.append(weights[:, :, 0].detach().double().numpy())
        model.vision_model.head.register_forward_hook(pooled)
    with torch.no_grad():
        out = model(input_ids=ids, pixel_values=pixels)
        attentions = model.vision_model(pixel_values=pixels, output_attentions=True).attentions
    prefix = 0 if pool else 1
    write(folder, pixels, out.logits_per_image, attentions, prefix, "class", None, pool[0] if pool else None)


if __name__ == "__main__":
    for name in [*TRANSFORMERS, *TIMM, *ZERO_SHOT]:
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        print(name, flush=True)
        kinds = ((TRANSFORMERS, of_transformers), (TIMM, of_timm), (ZERO_SHOT, of_texts))
        next(make for names, make in kinds if name in names)(name, SEEDS[name])
