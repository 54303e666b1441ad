"""Measures the demo model on rendered images at 224 px: accuracy and where the rollout points.

    python evaluate.py --work /tmp/patchlight-train                   # the served ../demo/model.onnx
    python evaluate.py --work ... --backend torch                     # the checkpoint, in PyTorch

Two sets of images, both from `render.EVAL` and the seed: the artists of the training (their
drawings are known, the images are new) and the artist that training never saw.
Rollout figures: how often the strongest patch is on the object, beside the same for a patch drawn
at random. "on object": at least a quarter of the patch is covered by the object's alpha mask.
"in box": the patch's centre lies in the object's box.
"""
import argparse
import json
import pathlib
import time

import numpy as np

import drawings as D
import render as R

HERE = pathlib.Path(__file__).resolve().parent
PX, P = 224, 16


def onnx_backend(folder, threads):
    import onnxruntime as ort
    o = ort.SessionOptions()
    o.intra_op_num_threads = threads
    s = ort.InferenceSession(str(folder / "model.onnx"), o, providers=["CPUExecutionProvider"])
    return lambda x: s.run(["logits", "rollout"], {"pixel_values": x})


def torch_backend(folder, threads):
    import torch
    import vit
    torch.set_num_threads(threads)
    m = vit.load(folder / "checkpoint")
    return lambda x: [t.numpy() for t in m.rollout(torch.from_numpy(x))]


def evaluate(run, d, n, seed, batch=32):
    """Predictions, classes and the two rollout figures over n images."""
    rng = np.random.default_rng(seed)
    rows = []
    for at in range(0, n, batch):
        pics = [R.render(rng, d, PX, PX, R.EVAL) for _ in range(min(batch, n - at))]
        logits, rollout = run(R.normalise(np.stack([p[0] for p in pics])))[:2]
        maps = rollout[:, -(PX // P) ** 2:]  # without the class token, if it is there
        for (_, k, box, mask), l, m in zip(pics, logits, maps):
            cover = mask.reshape(PX // P, P, PX // P, P).mean((1, 3)).reshape(-1) >= 0.25
            c = (np.arange(PX // P) + 0.5) * P
            inside = ((c[:, None] >= box[1]) & (c[:, None] < box[3]) & (c >= box[0]) & (c < box[2])).reshape(-1)
            top = np.argsort(-l)[:5]
            e = np.exp(l - l.max())
            best = m.argmax()
            rows.append((k, top[0], k in top, e.max() / e.sum(), cover[best], inside[best], cover.mean(), inside.mean()))
    return np.array(rows, dtype=np.float64)


def write_pictures(d, n, seed, folder):
    """Renders n images as PNG files, for `patchlight import --check`."""
    from PIL import Image
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.fromarray(R.render(rng, d, PX, PX, R.EVAL)[0]).save(folder / f"{i:05d}.png")


def report(name, r):
    k, top = r[:, 0].astype(int), r[:, 1].astype(int)
    hit = k == top
    acc = hit.mean()
    out = {"pictures": len(r), "top1": acc, "top5": r[:, 2].mean(), "mean_confidence": r[:, 3].mean(),
           "margin95": 1.96 * (acc * (1 - acc) / len(r)) ** 0.5,
           "rollout_on_object": r[:, 4].mean(), "random_on_object": r[:, 6].mean(),
           "rollout_in_box": r[:, 5].mean(), "random_in_box": r[:, 7].mean()}
    out = {a: round(float(b), 4) for a, b in out.items()}
    per = {D.LABELS[c]: float(hit[k == c].mean()) for c in np.unique(k)}
    out["weakest_classes"] = {a: round(b, 3) for a, b in sorted(per.items(), key=lambda t: t[1])[:10]}
    pairs, counts = np.unique(np.stack([k, top], 1)[~hit], axis=0, return_counts=True)
    out["confusions"] = [[D.LABELS[pairs[i][0]], D.LABELS[pairs[i][1]], int(counts[i])] for i in np.argsort(-counts)[:10]]
    print(f"{name}: {len(r)} images, top-1 {100 * acc:.1f} % (+-{100 * out['margin95']:.1f}), top-5 {100 * out['top5']:.1f} %")
    print(f"  rollout's strongest patch on the object {100 * out['rollout_on_object']:.1f} % (random patch "
          f"{100 * out['random_on_object']:.1f} %), in its box {100 * out['rollout_in_box']:.1f} % (random "
          f"{100 * out['random_in_box']:.1f} %)")
    print("  weakest: " + ", ".join(f"{a} {100 * b:.0f} %" for a, b in out["weakest_classes"].items()))
    print("  confused: " + ", ".join(f"{a}->{b} {c}x" for a, b, c in out["confusions"]), flush=True)
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--work", type=pathlib.Path, required=True, help="folder with drawings.npz")
    p.add_argument("--model", type=pathlib.Path, default=HERE.parent / "demo")
    p.add_argument("--backend", choices=("onnx", "torch"), default="onnx")
    p.add_argument("--pictures", type=int, default=2048, help="per set")
    p.add_argument("--seed", type=int, default=20261)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--sets", default="known,unseen")
    p.add_argument("--json", type=pathlib.Path, help="write the figures here as well")
    p.add_argument("--write-pictures", type=pathlib.Path, metavar="DIR",
                   help="only render --pictures of the first of --sets into this folder, for `patchlight import --check`")
    a = p.parse_args()
    if a.write_pictures:
        artists = D.TRAIN_ARTISTS if a.sets.startswith("known") else (D.HELD_OUT_ARTIST,)
        write_pictures(R.Drawings(a.work / "drawings.npz", artists), a.pictures, a.seed, a.write_pictures)
        return
    run = (onnx_backend if a.backend == "onnx" else torch_backend)(a.model, a.threads)
    out = {"backend": a.backend, "seed": a.seed}
    for name, artists in (("known", D.TRAIN_ARTISTS), ("unseen", (D.HELD_OUT_ARTIST,))):
        if name in a.sets.split(","):
            t = time.time()
            d = R.Drawings(a.work / "drawings.npz", artists)
            out[name] = report(f"{name} ({', '.join(artists)})", evaluate(run, d, a.pictures, a.seed))
            print(f"  {time.time() - t:.0f} s", flush=True)
    if a.json:
        a.json.write_text(json.dumps(out, indent=2) + "\n")


if __name__ == "__main__":
    main()
