"""Trains the demo ViT-Ti/16 on rendered pictographs, on a CPU. See README.md for the commands.

Stage 1 sees 112-px images (49 patches, a quarter of the work), stage 2 continues at 224 px from
bicubically interpolated position embeddings. The learning rate warms up, stays, then falls
linearly from `--decay-from` to `--pictures`; a run can be stopped and resumed with other values
for these two, so the fall may begin at any checkpoint.
"""
import argparse
import copy
import math
import os
import pathlib
import sys
import tempfile
import time

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

import drawings as D
import render as R
import vit


class Batches(torch.utils.data.Dataset):
    """Item i is this rank's part of the i-th batch; its images depend on seed, i and rank only."""

    def __init__(self, path, a, rank):
        self.d, self.a, self.rank = R.Drawings(path, D.TRAIN_ARTISTS), a, rank

    def __len__(self):
        return 1 << 30

    def __getitem__(self, i):
        a = self.a
        easy = max(a.easy, 1 - i * a.batch / max(1, a.easy_until))
        levels = (R.TRAIN_224, R.EVAL) if a.px > 112 else (R.TRAIN, R.EASY)
        x, y, cover = R.batch((a.seed, a.px, i, self.rank), self.d, a.batch // a.ranks, a.px, *levels, easy)
        return R.normalise(x), y, cover


def orthogonalise(g, steps=5):
    """Newton-Schulz iteration: the nearest (semi-)orthogonal matrix to each matrix of a batch."""
    x = (g / (g.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(steps):
        a = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return x.float()


class Muon:
    """Muon (Jordan et al. 2024) for the blocks' matrices; equal shapes are handled as one batch,
    of which each rank does its part. The fused query-key-value matrix counts as three."""

    def __init__(self, blocks, rank, ranks, momentum=0.95, decay=0.01):
        self.mu, self.decay, self.rank, self.ranks = momentum, decay, rank, ranks
        self.square = [p for b in blocks for p in (b.qkv.weight, b.out.weight)]
        self.mlp = [p for b in blocks for p in (b.up.weight, b.down.weight)]
        self.buf = [torch.zeros_like(p) for p in self.params()]

    def params(self):
        return self.square + self.mlp

    def shared(self, x):
        if self.ranks == 1:
            return orthogonalise(x)
        out = [torch.empty_like(p) for p in x.chunk(self.ranks)]
        dist.all_gather(out, orthogonalise(x.chunk(self.ranks)[self.rank]))
        return torch.cat(out)

    @torch.no_grad()
    def step(self, lr):
        ps = self.params()
        gs = [p.grad for p in ps]
        torch._foreach_lerp_(self.buf, gs, 1 - self.mu)
        us = torch._foreach_lerp(gs, self.buf, self.mu)  # Nesterov
        n = len(self.square)
        d = self.square[0].shape[1]
        sq = self.shared(torch.cat([u.view(-1, d, d) for u in us[:n]]))
        wide = self.shared(torch.stack([u if u.shape[0] < u.shape[1] else u.mT for u in us[n:]]))
        at = 0
        for i, p in enumerate(ps):
            if i < n:
                k = p.shape[0] // d
                u, at, scale = sq[at:at + k].reshape(p.shape), at + k, 1.0
            else:
                u = wide[i - n] if p.shape[0] < p.shape[1] else wide[i - n].mT
                scale = max(1.0, p.shape[0] / p.shape[1]) ** 0.5
            p.mul_(1 - lr * self.decay).sub_(u, alpha=lr * scale)


def rate(done, a):
    """Factor on the learning rates after `done` images of this stage."""
    up = min(1.0, (done + a.batch) / a.warmup)
    down = max(0.0, (a.pictures - done) / max(1, a.pictures - a.decay_from))
    return min(up, 0.01 + 0.99 * min(1.0, down))


@torch.no_grad()
def accuracy(model, x, y):
    model.eval()
    hits = sum(int((model(torch.from_numpy(R.normalise(x[i:i + 100]))).argmax(1).numpy() == y[i:i + 100]).sum())
               for i in range(0, len(y), 100))
    return hits / len(y)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--work", type=pathlib.Path, required=True, help="folder with drawings.npz; checkpoints go there")
    p.add_argument("--run", default="stage1", help="name of the checkpoint: <work>/<run>.pt; resumed if it exists")
    p.add_argument("--start", help="what to begin with: the name of a finished run, or a checkpoint folder")
    p.add_argument("--px", type=int, default=112)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--pictures", type=int, required=True)
    p.add_argument("--decay-from", type=int, required=True)
    p.add_argument("--warmup", type=int, default=6000, help="pictures")
    p.add_argument("--easy-until", type=int, default=60000, help="images over which the easy ones fade out")
    p.add_argument("--easy", type=float, default=0.0, help="the share of easy ones that remains")
    p.add_argument("--muon", type=float, default=0.02, help="learning rate of the blocks' matrices")
    p.add_argument("--adam", type=float, default=1e-3, help="learning rate of everything else")
    p.add_argument("--ema", type=float, default=0.998)
    p.add_argument("--keep", type=float, default=1.0, help="share of the patches that a training image keeps")
    p.add_argument("--smooth", type=float, default=0.05)
    p.add_argument("--dense", type=float, default=0.5, help="weight of the loss of the patches")
    p.add_argument("--seed", type=int, default=7)
    p.add_argument("--ranks", type=int, default=2, help="processes of one thread each that share a batch")
    p.add_argument("--no-compile", action="store_true")
    a = p.parse_args()
    if a.ranks == 1:
        work(0, a, None)
    else:
        with tempfile.TemporaryDirectory() as meet:
            torch.multiprocessing.spawn(work, (a, meet), nprocs=a.ranks)


def work(rank, a, meet):
    """One rank of the training. Ranks meet once a step (mean of the gradients, parts of Muon), which
    beside other programs on the same cores loses less than threads that meet in every operation."""
    if a.ranks > 1:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{meet}/meet", rank=rank, world_size=a.ranks)

    model = vit.ViT(len(D.LABELS), a.px, dense=True)
    path = a.work / f"{a.run}.pt"
    saved = torch.load(path, weights_only=True) if path.exists() else None
    if saved is None and a.start:
        if pathlib.Path(a.start).is_dir():
            # Without the layer that asks every patch, which an export leaves out: it begins again.
            start = vit.load(a.start).state_dict()
        else:
            start = torch.load(a.work / f"{a.start}.pt", weights_only=True)["ema"]
        model.load_state_dict(vit.resize_positions(start, a.px), strict=False)
    elif saved is None:
        vit.initialise(model, a.seed)
    else:
        model.load_state_dict(saved["model"])
    ema = copy.deepcopy(model).requires_grad_(False).eval()
    muon = Muon(model.blocks, rank, a.ranks)
    taken = {id(q) for q in muon.params()}
    rest = [q for q in model.parameters() if id(q) not in taken]
    adam = torch.optim.AdamW([{"params": [q for q in rest if q.dim() == 2], "weight_decay": 0.05},
                              {"params": [q for q in rest if q.dim() != 2], "weight_decay": 0.0}],
                             lr=a.adam, betas=(0.9, 0.98), foreach=True)
    step = 0
    if saved:
        step = saved["step"]
        ema.load_state_dict(saved["ema"])
        adam.load_state_dict(saved["adam"])
        for b, s in zip(muon.buf, saved["muon"]):
            b.copy_(s)

    torch.manual_seed(a.seed + rank)  # of the patch choice

    def save():
        torch.save({"model": model.state_dict(), "ema": ema.state_dict(), "adam": adam.state_dict(),
                    "muon": muon.buf, "step": step, "args": {k: str(v) for k, v in vars(a).items()}}, f"{path}.new")
        os.replace(f"{path}.new", path)

    data = Batches(a.work / "drawings.npz", a, rank)
    known = R.batch((1000, a.px), data.d, 600, a.px, R.EVAL)[:2]
    steps = math.ceil(a.pictures / a.batch)
    loader = iter(torch.utils.data.DataLoader(data, batch_size=None, sampler=range(step, steps), num_workers=1,
                                              prefetch_factor=4))
    # Forward and backward run on a bfloat16 copy; the weights that are updated stay float32.
    fast = copy.deepcopy(model).bfloat16()
    copies = list(fast.parameters())
    run = fast if a.no_compile else torch.compile(fast)
    seen_loss, seen_hit, t0, s0, t_save, t_val = [], [], time.time(), step, time.time(), time.time()
    ours, avg = list(model.parameters()), list(ema.parameters())
    if rank == 0:
        print(f"{sys.argv[1:]}\nfrom step {step} of {steps}", flush=True)
    for x, y, cover in loader:
        f = rate(step * a.batch, a)
        keep = None
        if a.keep < 1:
            t = (a.px // 16) ** 2
            score = torch.rand(len(y), t) - 0.5 * (cover > 0)  # half a mind to keep the object's patches
            keep = score.argsort(1)[:, :round(a.keep * t)]
            cover = cover.gather(1, keep)
        torch._foreach_copy_([q.data for q in copies], [q.data for q in ours])
        logits, patches = (y.float() for y in run(x.bfloat16(), keep))
        loss = F.cross_entropy(logits, y, label_smoothing=a.smooth)
        seen_loss.append(loss.item())
        if a.dense:  # token labelling: a covered patch should tell the class, a bare one "background"
            target = torch.where(cover > 0.4, y[:, None], torch.where(cover < 0.05, len(D.LABELS), -100))
            loss = loss + a.dense * F.cross_entropy(patches.flatten(0, 1), target.flatten())
        loss.backward()
        flat = torch.cat([q.grad.reshape(-1) for q in copies]).float()
        if a.ranks > 1:
            dist.all_reduce(flat)
        for q, g in zip(ours, (flat / a.ranks).split([q.numel() for q in ours])):
            q.grad = g.view_as(q)
        muon.step(a.muon * f)
        for g in adam.param_groups:
            g["lr"] = a.adam * f
        adam.step()
        fast.zero_grad(set_to_none=True)
        step += 1
        torch._foreach_lerp_(avg, [q.data for q in ours], 1 - min(a.ema, step / (step + 9)))
        seen_hit.append((logits.argmax(1) == y).float().mean().item())
        if rank:
            continue
        now = time.time()
        if step % 50 == 0 or step == steps:
            print(f"{time.strftime('%H:%M:%S')} images {step * a.batch} loss {np.mean(seen_loss[-50:]):.3f} "
                  f"train {np.mean(seen_hit[-50:]):.3f} lr x{f:.3f} {(step - s0) * a.batch / (now - t0):.0f}/s", flush=True)
            t0, s0 = now, step
        if now - t_save > 120 or step == steps:
            save()
            t_save = time.time()
        if now - t_val > 600 or step == steps:
            print(f"  validation, known artists, {a.px} px: {accuracy(ema, *known):.3f}", flush=True)
            t_val = time.time()


if __name__ == "__main__":
    main()
