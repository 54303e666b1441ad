"""Renders the sample images of ../samples from the drawings, large, on calmer backgrounds.

    python samples.py --work /tmp/patchlight-train [--check ../demo/model.onnx]

Writes the images and samples.json. `--check` prints what the served model makes of each.
"""
import argparse
import json
import pathlib

import cv2
import numpy as np
from PIL import Image, ImageOps

import drawings as D
import render as R

HERE = pathlib.Path(__file__).resolve().parent
# file, label, set, drawing, width, height, scene, (centre x, centre y) and size in shares of the
# image (size: of the shorter side), rotation in degrees, seed
SAMPLES = [
    ("dog.jpg", "dog", "noto", "dog-face", 640, 427, "meadow", (0.60, 0.52), 0.74, -6, 1),
    ("elephant.jpg", "elephant", "noto", "elephant", 1200, 800, "savanna", (0.40, 0.54), 0.72, 0, 2),
    ("penguin.jpg", "penguin", "fluent-emoji", "penguin", 500, 375, "snow", (0.36, 0.53), 0.78, 4, 3),
    ("butterfly.png", "butterfly", "noto", "butterfly", 512, 512, "leaves", (0.55, 0.46), 0.70, 12, 4),
    ("pizza.webp", "pizza", "emojione", "pizza", 600, 450, "cloth", (0.50, 0.50), 0.80, -10, 5),
    ("rocket.jpg", "rocket", "noto", "rocket", 480, 640, "night", (0.54, 0.44), 0.80, -4, 6),
    ("bicycle-rotated.jpg", "bicycle", "fluent-emoji", "bicycle", 640, 480, "street", (0.52, 0.56), 0.80, 0, 7),
    ("guitar.jpg", "guitar", "twemoji", "guitar", 600, 400, "stage", (0.50, 0.52), 0.82, 0, 8),
    ("crab.jpg", "crab", "twemoji", "crab", 800, 600, "sea", (0.44, 0.58), 0.70, 8, 9),
    ("mushroom.jpg", "mushroom", "fxemoji", "mushroom", 450, 600, "forest", (0.48, 0.60), 0.80, -5, 10),
]
ROTATED = "bicycle-rotated.jpg"  # stored turned by 90 degrees, with EXIF orientation 6


def rgb(code):
    return np.array([int(code[i:i + 2], 16) for i in (0, 2, 4)], np.float32)


def sky(x, y, top, low, until=1.0):
    return R.mix(np.clip(y / until, 0, 1), rgb(top), rgb(low))


def hills(rng, img, x, y, at, color, wave, grain):
    """A hill from height `at` downwards; lighter towards its crest."""
    h, w = x.shape
    line = at + wave * (np.sin(x[0] * 3.1 + rng.random() * 6) + 0.5 * np.sin(x[0] * 7.3 + rng.random() * 6))
    t = np.clip((y - line[None]) * min(w, h) / 1.5, 0, 1)
    shade = 1.12 - 0.35 * np.clip(y - line[None], 0, 1) + grain * R.value_noise(rng, w, h, 6, fall=0.75)
    return R.mix(t, img, rgb(color) * shade[..., None])


def discs(rng, img, colors, count, radius, opacity):
    """Out-of-focus lights."""
    h, w = img.shape[:2]
    m = min(w, h)
    for _ in range(count):
        lay = np.zeros((h, w), np.float32)
        r = rng.uniform(*radius) * m
        cv2.circle(lay, (int(rng.random() * w), int(rng.random() * h)), int(r), float(rng.uniform(*opacity)), -1, cv2.LINE_AA)
        img = R.mix(cv2.GaussianBlur(lay, (0, 0), r * 0.06 + 0.5), img, rgb(colors[rng.integers(len(colors))]))
    return img


def scene(kind, rng, w, h):
    x, y = R.grid(w, h)
    H = h / min(w, h)
    if kind == "meadow":
        img = discs(rng, sky(x, y, "8ecdf2", "e9f6fb"), ["ffffff"], 9, (0.05, 0.16), (0.15, 0.5))
        img = hills(rng, img, x, y, 0.52, "a9cf86", 0.05, 0.03)
        return hills(rng, img, x, y, 0.70, "7fb95d", 0.03, 0.06)
    if kind == "savanna":
        img = sky(x, y, "f7c873", "fdf0d5")
        cv2.circle(img, (int(w * 0.78), int(h * 0.30)), int(h * 0.11), rgb("fff6dd").tolist(), -1, cv2.LINE_AA)
        img = hills(rng, img, x, y, 0.55, "d8a860", 0.03, 0.03)
        return hills(rng, img, x, y, 0.68, "c58f47", 0.02, 0.07)
    if kind == "snow":
        img = hills(rng, sky(x, y, "6fa8dc", "dcebf7"), x, y, 0.55, "b9d3ea", 0.05, 0.02)
        img = hills(rng, img, x, y, 0.68, "e8f1f8", 0.03, 0.02)
        return discs(rng, img, ["ffffff"], 60, (0.006, 0.016), (0.6, 0.95))
    if kind == "leaves":
        img = np.clip(rgb("6fa86a") + 38 * R.value_noise(rng, w, h, 3)[..., None] * rgb("ffffb0") / 255, 0, 255)
        return discs(rng, img, ["cfe8a9", "f2f5c4", "8cc27f", "4f8f5b"], 26, (0.03, 0.13), (0.12, 0.45))
    if kind == "cloth":
        u, v = (np.floor(t / 0.125) % 2 for t in (x, y))
        return (rgb("fbf4ea") - (u + v)[..., None] * (rgb("fbf4ea") - rgb("8fb8c9")) * 0.42
                + 4 * R.value_noise(rng, w, h, 7, fall=0.9)[..., None])
    if kind == "night":
        img = sky(x, y, "141a3c", "51417f", H)
        img = img + 14 * R.value_noise(rng, w, h, 4)[..., None] * rgb("8070ff") / 255
        return discs(rng, img, ["ffffff", "ffe9b8", "bcd4ff"], 110, (0.002, 0.007), (0.5, 1.0))
    if kind == "street":
        img = sky(x, y, "b7dbe8", "f7f3e6")
        img = discs(rng, img, ["f3c9a5", "e7b7b0", "cfe0c3", "f6e2a8"], 16, (0.08, 0.2), (0.2, 0.5))
        img = hills(rng, img, x, y, 0.72, "b9b2ab", 0.0, 0.04)
        return hills(rng, img, x, y, 0.93, "a39c96", 0.0, 0.05)
    if kind == "stage":
        img = sky(x, y, "3b2b57", "8a4f6f", H)
        img = discs(rng, img, ["ffb46b", "f07f8f", "ffd9a0", "9d86e0"], 22, (0.03, 0.12), (0.15, 0.5))
        return hills(rng, img, x, y, 0.88, "5b3a44", 0.0, 0.04)
    if kind == "sea":
        img = sky(x, y, "66c7d8", "14507f", H)
        rays = np.clip(np.sin((x + 0.35 * y) * 9 + 1) * (1 - y / H), 0, 1) * 0.22
        img = R.mix(rays, img, rgb("e8fbff"))
        img = discs(rng, img, ["d9f6ff"], 24, (0.006, 0.025), (0.2, 0.6))
        return hills(rng, img, x, y, 0.90, "c9b583", 0.02, 0.06)
    img = discs(rng, sky(x, y, "9fbf8a", "4d6b47", H), ["d9e8a8", "7da36b", "f0eec2", "3f5c3e"], 30, (0.03, 0.12), (0.12, 0.45))
    return hills(rng, img, x, y, 0.82 * H, "6d5a3c", 0.03, 0.10)  # forest


def image(root, spec):
    """Upright RGB image and the object's box."""
    file, label, s, name, w, h, kind, (cx, cy), size, turn, seed = spec
    rng = np.random.default_rng(seed)
    m, n = min(w, h), 1024
    pack = json.loads((root / s / "icons.json").read_text())
    rgba = D.raster(D.svg_of(pack, name), n)
    n = int(size * m * 1.1)
    rgba = cv2.resize(rgba, (n, n), interpolation=cv2.INTER_AREA).astype(np.float32)
    img = np.ascontiguousarray(np.clip(scene(kind, rng, w, h), 0, 255), np.float32)
    level = dict(R.EVAL, rot=0, wild_rot=0, shear=0, persp=0, aspect=0, flip=0)
    mat = R.affine(rng, size * m, cx * w, cy * h, level, n)
    a = np.eye(3)
    a[:2] = cv2.getRotationMatrix2D((cx * w, cy * h), -turn, 1)
    mat = a @ mat
    shadow = np.zeros_like(rgba)
    shadow[..., 3] = rgba[..., 3]
    shift = np.array([[1, 0, 0.012 * m], [0, 1, 0.022 * m], [0, 0, 1]])
    R.paste(img, cv2.GaussianBlur(shadow, (0, 0), n * 0.02), shift @ mat, 0.35)
    al, (x0, y0) = R.paste(img, rgba, mat)
    img = cv2.GaussianBlur(img, (0, 0), 0.6) + rng.standard_normal((h, w, 1), np.float32) * 2
    ys, xs = np.nonzero(al.max(1) > 0.4)[0], np.nonzero(al.max(0) > 0.4)[0]
    box = [int(x0 + xs[0]), int(y0 + ys[0]), int(x0 + xs[-1]) + 1, int(y0 + ys[-1]) + 1]
    return np.clip(img + 0.5, 0, 255).astype(np.uint8), box


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--work", type=pathlib.Path, required=True)
    p.add_argument("--out", type=pathlib.Path, default=HERE.parent / "samples")
    p.add_argument("--check", type=pathlib.Path, help="model.onnx, or a checkpoint folder")
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    root, listing = D.install(a.work), []
    for spec in SAMPLES:
        img, box = image(root, spec)
        pic, more = Image.fromarray(img), {}
        if spec[0] == ROTATED:
            pic = pic.transpose(Image.Transpose.ROTATE_90)  # orientation 6: a viewer turns it clockwise
            exif = Image.Exif()
            exif[0x0112] = 6
            more["exif"] = exif
        if spec[0].endswith("png"):
            more["optimize"] = True
        else:
            more["quality"] = 90
        pic.save(a.out / spec[0], **more)
        artist = D.SETS[spec[2]][0]
        listing.append({"file": spec[0], "label": spec[1], "class_id": D.LABELS.index(spec[1]), "artist": artist,
                        "set": spec[2], "drawing": spec[3], "seen_in_training": artist in D.TRAIN_ARTISTS,
                        "box": box, "width": spec[4], "height": spec[5]})
    (a.out / "samples.json").write_text("[\n" + ",\n".join("  " + json.dumps(e) for e in listing) + "\n]\n")
    if a.check:
        import evaluate
        onnx = a.check.suffix == ".onnx"
        run = (evaluate.onnx_backend if onnx else evaluate.torch_backend)(a.check.parent, 2)
        for e in listing:
            pic = ImageOps.exif_transpose(Image.open(a.out / e["file"])).convert("RGB")
            assert pic.size == (e["width"], e["height"])
            x = np.asarray(pic.resize((224, 224), Image.Resampling.BILINEAR))
            l, r = (o[0] for o in run(R.normalise(x[None]))[:2])
            q = np.exp(l - l.max())
            q /= q.sum()
            best = int(r[-196:].argmax())
            px, py = (best % 14 + 0.5) / 14 * e["width"], (best // 14 + 0.5) / 14 * e["height"]
            b = e["box"]
            print(f"{e['file']}: {D.LABELS[l.argmax()]} {q.max():.3f}", "ok" if l.argmax() == e["class_id"] else "WRONG",
                  "| strongest patch", "inside" if b[0] <= px < b[2] and b[1] <= py < b[3] else "outside", "the box")


if __name__ == "__main__":
    main()
