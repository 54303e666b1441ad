"""ViT-Ti/16 in plain PyTorch, and its exchange with the Hugging Face `ViTForImageClassification` layout."""
import json
import os
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

EPS = 1e-6


class Block(nn.Module):
    def __init__(self, dim, heads, mlp):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.qkv = nn.Linear(dim, 3 * dim)  # one product instead of three; split on export
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.up = nn.Linear(dim, mlp)
        self.down = nn.Linear(mlp, dim)

    def split(self, x):
        n, t, d = x.shape
        return self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, x):
        n, t, d = x.shape
        # Spelled out: the gradient of PyTorch's fused attention took half of a step on a CPU.
        q, k, v = (y.reshape(n * self.heads, t, -1) for y in self.split(self.norm1(x)))
        a = torch.bmm(torch.softmax(torch.bmm(q, k.mT) * q.shape[-1] ** -0.5, -1), v)
        x = x + self.out(a.view(n, self.heads, t, -1).transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))

    def attention(self, x):
        """Attention probabilities [n, heads, t, t] for the block's input."""
        q, k, _ = self.split(self.norm1(x))
        return torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)


class ViT(nn.Module):
    def __init__(self, classes, px=224, patch=16, dim=192, depth=12, heads=3, mlp=768, dense=False):
        super().__init__()
        self.px, self.patch, self.dim = px, patch, dim
        self.embed = nn.Linear(3 * patch * patch, dim)  # the patch convolution as a product
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos = nn.Parameter(torch.zeros(1, 1 + (px // patch) ** 2, dim))
        self.blocks = nn.ModuleList(Block(dim, heads, mlp) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.head = nn.Linear(dim, classes)
        if dense:  # for training only: a "background" logit, so that every patch can be classified
            self.ground = nn.Linear(dim, 1)

    def tokens(self, x):
        n, c, h, w = x.shape
        p = self.patch
        x = x.view(n, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).reshape(n, -1, c * p * p)
        return torch.cat([self.cls.to(x.dtype).expand(n, -1, -1), self.embed(x)], 1) + self.pos

    def forward(self, x, keep=None):
        """Logits. `keep` [n, k] names the patches that take part (PatchDropout, Liu et al. 2022)."""
        x = self.tokens(x)
        if keep is not None:
            x = torch.cat([x[:, :1], x[:, 1:].gather(1, keep[..., None].expand(-1, -1, self.dim))], 1)
        for b in self.blocks:
            x = b(x)
        if self.training:  # class logits of the class token and, background last, of every patch
            x = self.norm(x)
            return self.head(x[:, 0]), torch.cat([self.head(x[:, 1:]), self.ground(x[:, 1:])], -1)
        return self.head(self.norm(x[:, 0]))

    @torch.no_grad()
    def rollout(self, x):
        """Logits and the class token's row of the attention rollout (Abnar & Zuidema 2020) over all
        tokens: heads averaged, half of each layer the residual, from the last layer to the first."""
        x = self.tokens(x)
        att = []
        for b in self.blocks:
            att.append(b.attention(x).mean(1))
            x = b(x)
        r = torch.zeros(x.shape[0], 1, x.shape[1])
        r[:, 0, 0] = 1
        for a in reversed(att):
            r = 0.5 * (r @ a + r)
        return self.head(self.norm(x[:, 0])), r[:, 0]


def sincos(side, dim):
    """2-D sine-cosine position table [side*side, dim]; positions run over 0..14 at every side, so
    that going from 7x7 to 14x14 patches is an interpolation."""
    y, x = torch.meshgrid(*[(torch.arange(side) + 0.5) * 14 / side] * 2, indexing="ij")
    w = 1 / 100 ** (torch.arange(dim // 4) / (dim // 4))
    return torch.cat([f(v.reshape(-1, 1) * w) for v in (x, y) for f in (torch.sin, torch.cos)], 1)


@torch.no_grad()
def initialise(m, seed):
    """Truncated-normal weights, sine-cosine positions, and attention that starts out mimetic:
    query-key product near a*identity, value-output product near -b*identity (Trockman & Kolter 2023)."""
    g = torch.Generator().manual_seed(seed)
    for p in m.modules():
        if isinstance(p, nn.Linear):
            nn.init.trunc_normal_(p.weight, std=0.02, generator=g)
            nn.init.zeros_(p.bias)
    d = m.dim
    nn.init.trunc_normal_(m.embed.weight, std=(3 * m.patch ** 2) ** -0.5, generator=g)
    nn.init.trunc_normal_(m.cls, std=0.02, generator=g)
    m.pos[:, 1:] = 0.5 * sincos(m.px // m.patch, d)
    for b in m.blocks:
        h, e = b.heads, d // b.heads
        for i in range(h):
            z = torch.randn(d, d, generator=g) / d ** 0.5
            u, s, vt = torch.linalg.svd(0.7 * z + 0.7 * torch.eye(d))
            r = s[:e].sqrt()
            b.qkv.weight[i * e:(i + 1) * e] = (u[:, :e] * r).T
            b.qkv.weight[d + i * e:d + (i + 1) * e] = vt[:e] * r[:, None]
        z = torch.randn(d, d, generator=g) / d ** 0.5
        u, s, vt = torch.linalg.svd(0.4 * z - 0.4 * torch.eye(d))
        b.qkv.weight[2 * d:] = s.sqrt()[:, None] * vt
        b.out.weight.copy_(u * s.sqrt())


def resize_positions(state, px, patch=16):
    """Bicubic interpolation of the position table in a state dict to images of side px."""
    pos = state["pos"]
    old, new = int((pos.shape[1] - 1) ** 0.5), px // patch
    if old != new:
        g = pos[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2).float()
        g = F.interpolate(g, size=(new, new), mode="bicubic", align_corners=False)
        state = dict(state, pos=torch.cat([pos[:, :1], g.permute(0, 2, 3, 1).reshape(1, new * new, -1)], 1))
    return state


NAMES = {"cls": "vit.embeddings.cls_token", "pos": "vit.embeddings.position_embeddings",
         "embed.bias": "vit.embeddings.patch_embeddings.projection.bias",
         "norm.weight": "vit.layernorm.weight", "norm.bias": "vit.layernorm.bias",
         "head.weight": "classifier.weight", "head.bias": "classifier.bias"}
BLOCK = {"norm1": "layernorm_before", "out": "attention.output.dense", "norm2": "layernorm_after",
         "up": "intermediate.dense", "down": "output.dense"}


def to_hf(state, patch=16):
    """State dict of `ViT` -> tensors under Hugging Face's names (float32)."""
    out = {}
    for k, v in state.items():
        v = v.detach().float()
        if k.startswith("ground."):  # only the training uses it
            continue
        if k == "embed.weight":
            out["vit.embeddings.patch_embeddings.projection.weight"] = v.reshape(-1, 3, patch, patch)
        elif k.startswith("blocks."):
            _, i, part, kind = k.split(".")
            at = f"vit.encoder.layer.{i}."
            if part == "qkv":
                for n, w in zip(("query", "key", "value"), v.chunk(3)):
                    out[f"{at}attention.attention.{n}.{kind}"] = w
            else:
                out[f"{at}{BLOCK[part]}.{kind}"] = v
        else:
            out[NAMES[k]] = v
    return out


def from_hf(tensors):
    """The other way round; also gives the number of classes."""
    t = {k: torch.as_tensor(np.asarray(v)).float() for k, v in tensors.items()}
    back = {v: k for k, v in NAMES.items()}
    parts = {v: k for k, v in BLOCK.items()}
    out, qkv = {}, {}
    for k, v in t.items():
        if k in back:
            out[back[k]] = v
        elif k.endswith("projection.weight"):
            out["embed.weight"] = v.reshape(v.shape[0], -1)
        else:
            i, rest = k.removeprefix("vit.encoder.layer.").split(".", 1)
            part, kind = rest.rsplit(".", 1)
            if part.startswith("attention.attention."):
                qkv.setdefault(f"blocks.{i}.qkv.{kind}", {})[part.rsplit(".", 1)[1]] = v
            else:
                out[f"blocks.{i}.{parts[part]}.{kind}"] = v
    for k, v in qkv.items():
        out[k] = torch.cat([v["query"], v["key"], v["value"]])
    return out


def load(folder):
    from safetensors.numpy import load_file
    state = from_hf(load_file(pathlib.Path(folder) / "model.safetensors"))
    m = ViT(state["head.bias"].shape[0])
    m.load_state_dict(state)
    return m.eval()


def export(state, labels, folder):
    """Writes a checkpoint folder as `save_pretrained` would; every file is replaced in one step."""
    from safetensors.numpy import save_file
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = resize_positions(state, 224)
    config = {
        "architectures": ["ViTForImageClassification"], "attention_probs_dropout_prob": 0.0, "dtype": "float16",
        "encoder_stride": 16, "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "hidden_size": 192,
        "id2label": {str(i): l for i, l in enumerate(labels)}, "image_size": 224, "initializer_range": 0.02,
        "intermediate_size": 768, "label2id": {l: i for i, l in enumerate(labels)}, "layer_norm_eps": EPS,
        "model_type": "vit", "num_attention_heads": 3, "num_channels": 3, "num_hidden_layers": 12,
        "patch_size": 16, "problem_type": "single_label_classification", "qkv_bias": True,
    }
    pre = {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
           "image_mean": [0.5] * 3, "image_processor_type": "ViTImageProcessor", "image_std": [0.5] * 3,
           "resample": 2, "rescale_factor": 1 / 255, "size": {"height": 224, "width": 224}}
    half = {k: np.ascontiguousarray(v.numpy().astype(np.float16)) for k, v in sorted(to_hf(state).items())}
    tmp = {n: folder / f".{n}.new" for n in ("model.safetensors", "config.json", "preprocessor_config.json")}
    save_file(half, tmp["model.safetensors"], metadata={"format": "pt"})
    tmp["config.json"].write_text(json.dumps(config, indent=2) + "\n")
    tmp["preprocessor_config.json"].write_text(json.dumps(pre, indent=2) + "\n")
    for n, p in tmp.items():
        p.chmod(0o644)
        os.replace(p, folder / n)
