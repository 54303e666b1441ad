"""Procedural images: one pictograph on a made-up background, with its class and its box.

Everything is drawn from one `numpy.random.Generator`, so a seed fixes an image. Lengths are
fractions of the shorter side, hence the same scene can be rendered at any resolution (only the
per-pixel noise differs). The levels share the code:

`EVAL`       the distribution that the reported figures are measured on: object 35-85 % of the
             shorter side and wholly inside the image, +-25 deg rotation, up to three distractors.
`TRAIN`      harder: more of every disturbance, squashed further, the frame may cut a part off.
             Objects are 55-120 % of the side, which in a 96-px image shows them at about the
             scale, in 16-px patches, that they have later at 224 px.
`TRAIN_224`  the same with objects of 32-95 % of the side.
"""
import math

import cv2
import numpy as np

cv2.setNumThreads(1)

EVAL = dict(size=(0.35, 0.85), inside=True, rot=25, wild_rot=0.03, shear=0.12, persp=0.06, aspect=0.25,
            flip=0.5, hue=12, wild_hue=0.08, grey=0.06, style=0.08, occlude=0.15, distract=3,
            blur=0.25, noise=0.4, jpeg=0.4, contrast=0.25)
TRAIN = dict(size=(0.55, 1.2), inside=False, rot=28, wild_rot=0.05, shear=0.15, persp=0.08, aspect=0.42,
             flip=0.5, hue=16, wild_hue=0.12, grey=0.08, style=0.12, occlude=0.2, distract=3,
             blur=0.25, noise=0.35, jpeg=0.3, contrast=0.3)
TRAIN_224 = dict(TRAIN, size=(0.32, 0.95))
# where training starts: large, upright, undisturbed
EASY = dict(EVAL, size=(0.6, 1.05), wild_rot=0.0, wild_hue=0.05, grey=0.0, style=0.0, occlude=0.0, distract=1,
            blur=0.1, noise=0.2, jpeg=0.1, contrast=0.1)
BACKGROUNDS = ("plain", "gradient", "radial", "noise", "stripes", "checker", "blobs", "texture", "landscape", "bokeh")


class Drawings:
    """The rasters of `drawings.py` with smaller copies, so that shrinking does not alias."""

    def __init__(self, path, artists, known_size=256):
        d = np.load(path)
        keep = np.isin(d["artist"], artists)
        rgba, self.cls, self.artist = d["rgba"][keep], d["cls"][keep], d["artist"][keep]
        self.set, self.name = d["set"][keep], d["name"][keep]
        self.level = [[a] + [cv2.resize(a, (s, s), interpolation=cv2.INTER_AREA) for s in (128, 64, 32)]
                      for a in rgba]
        # per class: artist -> set -> drawings; drawn evenly level by level, so that an artist
        # with more drawings of a thing does not weigh more
        self.tree = {}
        for i in np.nonzero(self.cls >= 0)[0]:
            sets = self.tree.setdefault(int(self.cls[i]), {}).setdefault(str(self.artist[i]), {})
            sets.setdefault(str(self.set[i]), []).append(int(i))
        self.classes = sorted(self.tree)
        self.symbols = np.nonzero(self.cls < 0)[0]

    def pick(self, rng, k=None):
        k = self.classes[rng.integers(len(self.classes))] if k is None else k
        sets = list(self.tree[k].values())
        sets = sets[rng.integers(len(sets))]
        names = list(sets.values())[rng.integers(len(sets))]
        return names[rng.integers(len(names))]


def color(rng, vivid=None):
    """A random RGB color, float32 0..255: from greyish to vivid."""
    h, s, v = rng.random(), rng.random() ** (0.7 if vivid else 1.5), 1 - 0.8 * rng.random() ** 1.3
    hsv = np.array([[[h * 180, s * 255, v * 255]]], np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


_grids = {}


def grid(w, h):
    """x and y of every pixel centre, in units of the shorter side."""
    if (w, h) not in _grids:
        m = min(w, h)
        _grids[w, h] = ((np.arange(w, dtype=np.float32) + 0.5)[None, :] / m + np.zeros((h, 1), np.float32),
                        (np.arange(h, dtype=np.float32) + 0.5)[:, None] / m + np.zeros((1, w), np.float32))
    return _grids[w, h]


def value_noise(rng, w, h, octaves, channels=1, fall=0.5):
    """Smooth noise: random grids, each finer than the last, resized and summed; about -1..1."""
    m, out, amp, cells = min(w, h), 0, 1.0, int(rng.integers(2, 5))
    for _ in range(octaves):
        n = rng.random((cells * h // m + 2, cells * w // m + 2, channels), np.float32) * 2 - 1
        out = out + amp * cv2.resize(n, (w, h), interpolation=cv2.INTER_CUBIC if cells < 9 else cv2.INTER_LINEAR)
        amp, cells = amp * fall, cells * 2
    return out if channels > 1 else out.reshape(h, w)


def mix(t, a, b):
    t = t[..., None]
    return a + t * (b - a)


def background(rng, w, h, kind=None):
    kind = kind or BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    a, b = color(rng), color(rng)
    x, y = grid(w, h)
    W, H = w / min(w, h), h / min(w, h)
    if kind == "plain":
        return np.tile(a, (h, w, 1))
    if kind == "gradient":
        t = rng.random() * 2 * math.pi
        return mix(np.clip(0.5 + (x - W / 2) * math.cos(t) + (y - H / 2) * math.sin(t), 0, 1), a, b)
    if kind == "radial":
        cx, cy, r = rng.random() * W, rng.random() * H, rng.uniform(0.4, 1.2)
        return mix(np.minimum(np.sqrt((x - cx) ** 2 + (y - cy) ** 2) / r, 1), a, b)
    if kind == "noise":
        return mix(np.clip(0.5 + 0.6 * value_noise(rng, w, h, int(rng.integers(1, 6))), 0, 1), a, b)
    if kind in ("stripes", "checker"):
        t, period = rng.random() * math.pi, rng.uniform(0.06, 0.4)
        u = np.sin((x * math.cos(t) + y * math.sin(t)) * (2 * math.pi / period) + rng.random() * 6)
        if kind == "checker":
            u = u * np.sin((y * math.cos(t) - x * math.sin(t)) * (2 * math.pi / period))
        b = a + (b - a) * rng.uniform(0.2, 1)
        return mix(np.clip(0.5 + u * rng.uniform(0.5, 8), 0, 1), a, b)
    if kind in ("blobs", "bokeh"):
        img = mix(y / H, a, b)
        m = min(w, h)
        soft = kind == "bokeh"
        for _ in range(int(rng.integers(4, 14))):
            c, r = color(rng), rng.uniform(0.05, 0.3) * (0.6 if soft else 1)
            p = (int(rng.random() * w), int(rng.random() * h))
            if soft:
                lay = np.zeros((h, w), np.float32)
                cv2.circle(lay, p, max(1, int(r * m)), float(rng.uniform(0.2, 0.7)), -1, cv2.LINE_AA)
                img = mix(lay, img, c)
            else:
                cv2.ellipse(img, p, (max(1, int(r * m)), max(1, int(r * m * rng.uniform(0.3, 1)))),
                            rng.random() * 180, 0, 360, c.tolist(), -1)
        s = rng.uniform(0.005, 0.05) * m
        return cv2.GaussianBlur(img, (0, 0), s) if s > 0.4 else img
    if kind == "texture":  # colored noise with the falling spectrum of photographs
        n = value_noise(rng, w, h, 6, 3, fall=rng.uniform(0.45, 0.8))
        lum = n.mean(2, keepdims=True)
        return np.clip((a + b) / 2 + (lum + (n - lum) * rng.uniform(0.1, 0.8)) * rng.uniform(30, 110), 0, 255)
    # landscape: a sky, a wavy horizon and a ground with some grain
    hor = rng.uniform(0.35, 0.8) * H
    line = hor + 0.05 * np.sin(x[0] * rng.uniform(2, 12) + rng.random() * 6) * rng.random()
    sky = mix(np.clip(y / hor, 0, 1), a, a + (255 - a) * rng.random())
    ground = b + value_noise(rng, w, h, 4)[..., None] * rng.uniform(3, 35)
    t = np.clip((y - line[None]) * min(w, h) / 2, 0, 1)
    return np.clip(mix(t, sky, ground), 0, 255)


def restyle(rng, rgba, level):
    """Color and style changes of one drawing (premultiplied RGBA uint8 in, float32 out)."""
    rgb, al = rgba[..., :3], rgba[..., 3:].astype(np.float32)
    u = rng.random()
    if u < level["grey"]:
        g = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
        tint = 1 + (rng.random(3).astype(np.float32) - 0.5) * (0.4 if rng.random() < 0.5 else 0)
        out = g * tint
    else:
        out = rgb
        wild = u > 1 - level["wild_hue"]
        shift = rng.uniform(-90, 90) if wild else rng.normal() * level["hue"] / 2
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + int(shift)) % 180
        sat = rng.uniform(0.55, 1.35)
        hsv[..., 1] = np.minimum(hsv[..., 1].astype(np.float32) * sat, 255)
        out = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)
    # brightness and gamma act on the straight color: c*a*gain stays premultiplied
    gain = rng.uniform(0.7, 1.2)
    lift = rng.uniform(-15, 35) / 255 if rng.random() < 0.5 else 0.0
    out = np.minimum(out * gain + lift * al, al)
    u = rng.random() / max(level["style"], 1e-9)
    if u < 0.25:  # posterised: few grey levels per channel
        q = 255 / rng.integers(2, 5)
        out = np.minimum(np.round(out / q) * q, al)
    elif u < 0.5:  # outline: edges of the drawing on a pale fill
        g = cv2.GaussianBlur(out.mean(2) + 0.5 * al[..., 0], (0, 0), 1.0)
        e = np.abs(cv2.Laplacian(g, cv2.CV_32F, ksize=3))[..., None]
        ink = np.clip(e / 18, 0, 1)
        out = al / 255 * mix(ink[..., 0], color(rng) * 0.3 + 178, color(rng) * 0.3)
    elif u < 0.75:  # a dark or white contour around the drawing, as stickers have
        r = int(rng.integers(1, max(2, rgba.shape[0] // 24)))
        big = cv2.dilate(al, np.ones((2 * r + 1, 2 * r + 1), np.uint8))[..., None]
        c = 255.0 if rng.random() < 0.6 else 30.0
        out, al = out + (big - al) * (c / 255), big
    elif u < 1:  # negative colors of a mild kind: lightness mirrored half way
        out = out * 0.4 + (al - out) * 0.6 * rng.random() + 0.2 * al * rng.random()
    return np.concatenate([np.clip(out, 0, al), al], 2)


def affine(rng, side, cx, cy, level, n):
    """3x3 matrix from raster pixels (n x n) to image pixels: object of `side` px around cx, cy."""
    t = math.radians(rng.uniform(-180, 180) if rng.random() < level["wild_rot"]
                     else rng.uniform(-level["rot"], level["rot"]))
    c, s = math.cos(t), math.sin(t)
    asp = math.exp(rng.uniform(-level["aspect"], level["aspect"]))
    flip = -1 if rng.random() < level["flip"] else 1
    k = rng.uniform(-level["shear"], level["shear"])
    a = np.array([[c, -s], [s, c]]) @ np.array([[1, k], [0, 1]]) @ np.diag([flip * math.sqrt(asp), 1 / math.sqrt(asp)])
    a = a * (side / n)
    m = np.eye(3)
    m[:2, :2] = a
    m[:2, 2] = (cx, cy) - a @ (n / 2, n / 2)
    if level["persp"] and rng.random() < 0.4:
        p = np.eye(3)
        p[2, :2] = rng.uniform(-level["persp"], level["persp"], 2) / side
        q = p @ (cx, cy, 1)
        p[:2] += np.outer((cx, cy) - q[:2] / q[2], p[2])  # keep the centre where it is
        m = p @ m
    return m


def corners(m, n):
    q = m @ np.array([[0, n, n, 0], [0, 0, n, n], [1, 1, 1, 1]], float)
    return q[:2] / q[2]


def level_for(levels, side):
    """The smallest copy of a drawing that is still at least as large as the object."""
    best = levels[0]
    for a in levels[1:]:
        if a.shape[0] >= side * 0.9:
            best = a
    return best


def paste(img, rgba, m, opacity=1.0):
    """Draws premultiplied `rgba` through `m` into `img`; returns the visible alpha and its place."""
    h, w = img.shape[:2]
    q = corners(m, rgba.shape[0])
    x0, y0 = max(0, int(q[0].min()) - 1), max(0, int(q[1].min()) - 1)
    x1, y1 = min(w, int(q[0].max()) + 2), min(h, int(q[1].max()) + 2)
    if x1 <= x0 or y1 <= y0:
        return None, (0, 0)
    m = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1.0]]) @ m
    if abs(m[2, 0]) + abs(m[2, 1]) < 1e-12:
        lay = cv2.warpAffine(rgba, m[:2] / m[2, 2], (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    else:
        lay = cv2.warpPerspective(rgba, m, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    al = lay[..., 3:] * (opacity / 255)
    roi = img[y0:y1, x0:x1]
    roi *= 1 - al
    roi += lay[..., :3] * opacity
    return al[..., 0], (x0, y0)


def shape(rng, img, cx, cy, r):
    """One flat shape of radius r px: polygon, ellipse, line, ring or rectangle."""
    c = color(rng).tolist()
    k = rng.integers(5)
    if k == 0:
        n = int(rng.integers(3, 8))
        t = np.sort(rng.random(n)) * 2 * math.pi
        p = np.stack([cx + r * np.cos(t) * rng.uniform(0.5, 1, n), cy + r * np.sin(t) * rng.uniform(0.5, 1, n)], 1)
        cv2.fillPoly(img, [p.astype(np.int32)], c, cv2.LINE_AA)
    elif k == 1:
        cv2.ellipse(img, (int(cx), int(cy)), (max(1, int(r)), max(1, int(r * rng.uniform(0.3, 1)))), rng.random() * 180,
                    0, 360, c, -1, cv2.LINE_AA)
    elif k == 2:
        t = rng.random() * 2 * math.pi
        d = 2 * r * np.array([math.cos(t), math.sin(t)])
        cv2.line(img, (int(cx - d[0]), int(cy - d[1])), (int(cx + d[0]), int(cy + d[1])), c,
                 max(1, int(r * rng.uniform(0.05, 0.4))), cv2.LINE_AA)
    elif k == 3:
        cv2.circle(img, (int(cx), int(cy)), max(1, int(r)), c, max(1, int(r * 0.25)), cv2.LINE_AA)
    else:
        cv2.rectangle(img, (int(cx - r), int(cy - r * rng.random())), (int(cx + r), int(cy + r * rng.random())), c, -1)


def render(rng, drawings, w, h, level, k=None, which=None, bg=None, size=None, clean=False):
    """One image: RGB uint8 [h, w, 3], class, box (x0, y0, x1, y1) in pixels, alpha mask [h, w].

    `k` fixes the class, `which` the drawing, `bg` the background and `size` the object's size as a
    fraction of the shorter side; `clean` leaves out distractors and disturbances.
    """
    m = min(w, h)
    img = np.ascontiguousarray(background(rng, w, h, bg), dtype=np.float32)
    i = drawings.pick(rng, k) if which is None else which
    size = rng.uniform(*level["size"]) if size is None else size
    side = size * m
    # the drawing's square covers at most the image; where it is larger or `inside` is off,
    # the frame may cut a part of it
    def place(length):
        room = length - side
        if level["inside"]:
            return length / 2 + room / 2 * rng.uniform(-1, 1)
        slack = max(room, 0) + 0.12 * side
        return length / 2 + slack / 2 * rng.uniform(-1, 1)
    cx, cy = place(w), place(h)

    count = 0 if clean else int(rng.integers(level["distract"] + 1))
    for _ in range(count):
        x, y = rng.random() * w, rng.random() * h
        r = rng.uniform(0.05, 0.18) * m
        if rng.random() < 0.5 and len(drawings.symbols):
            s = drawings.level[drawings.symbols[rng.integers(len(drawings.symbols))]]
            paste(img, level_for(s, 2 * r).astype(np.float32), affine(rng, 2 * r, x, y, level, level_for(s, 2 * r).shape[0]))
        else:
            shape(rng, img, x, y, r)

    src = level_for(drawings.level[i], side)
    rgba = src.astype(np.float32) if clean else restyle(rng, src, level)
    n = rgba.shape[0]
    mat = affine(rng, side, cx, cy, level, n)
    if level["inside"]:  # shrink and move so that the warped square's drawing stays in the frame
        q = corners(mat, n)
        f = min(1, w / np.ptp(q[0]), h / np.ptp(q[1]))
        mid = (q.max(1) + q.min(1)) / 2
        half = f * np.ptp(q, axis=1) / 2
        to = np.clip(mid, half, np.array([w, h]) - half)
        mat = np.array([[f, 0, to[0] - f * mid[0]], [0, f, to[1] - f * mid[1]], [0, 0, 1]]) @ mat
    if not clean and rng.random() < 0.25:  # a soft shadow below
        sh = np.zeros_like(rgba)
        sh[..., 3] = rgba[..., 3]
        d = rng.uniform(0.01, 0.05) * side
        paste(img, cv2.GaussianBlur(sh, (0, 0), n * 0.03), np.array([[1, 0, d], [0, 1, d], [0, 0, 1]]) @ mat, 0.5)
    al, (x0, y0) = paste(img, rgba, mat)
    mask = np.zeros((h, w), np.float32)
    mask[y0:y0 + al.shape[0], x0:x0 + al.shape[1]] = al
    ys, xs = np.nonzero(mask.max(1) > 0.4)[0], np.nonzero(mask.max(0) > 0.4)[0]
    box = (int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1) if len(xs) and len(ys) else (0, 0, w, h)
    if not clean:
        if rng.random() < level["occlude"]:  # something small in front, at the object's edge
            t, r = rng.random() * 2 * math.pi, rng.uniform(0.06, 0.14) * side
            over = img.copy()
            shape(rng, over, cx + 0.45 * side * math.cos(t), cy + 0.45 * side * math.sin(t), r)
            img = over
        img = disturb(rng, img, level)
    return np.clip(img + 0.5, 0, 255).astype(np.uint8), int(drawings.cls[i]), box, mask


def disturb(rng, img, level):
    """What cameras and files add: contrast, color cast, blur, noise, JPEG artefacts."""
    h, w = img.shape[:2]
    m = min(w, h)
    if rng.random() < level["contrast"]:
        img = (img - 128) * rng.uniform(0.5, 1.2) + 128 + rng.uniform(-30, 30)
        img = img * (1 + (rng.random(3).astype(np.float32) - 0.5) * 0.3)
    if rng.random() < level["blur"]:
        s = rng.uniform(0.002, 0.010) * m
        img = cv2.GaussianBlur(img, (0, 0), max(s, 0.3))
    if rng.random() < level["noise"]:
        img = img + rng.standard_normal((h, w, 3), np.float32) * rng.uniform(2, 16)
    if rng.random() < level["jpeg"]:
        ok, buf = cv2.imencode(".jpg", np.clip(img, 0, 255).astype(np.uint8),
                               [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))])
        img = cv2.imdecode(buf, cv2.IMREAD_COLOR).astype(np.float32)
    return img


def normalise(batch):
    """uint8 [n, h, w, 3] -> float32 [n, 3, h, w], mean and deviation 0.5."""
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1


def cover(mask, p=16):
    """Alpha masks [n, h, w] -> mean alpha of every patch, row by row, [n, patches]."""
    n, h, w = mask.shape
    return mask.reshape(n, h // p, p, w // p, p).mean((2, 4)).reshape(n, -1)


def batch(seed, drawings, n, px, level, easier=None, share=0.0):
    """n images of side px from one seed: uint8 images, classes, and how much of each 16-px patch
    the object covers, [n, patches]. A `share` of them is of the level `easier`."""
    rng = np.random.default_rng(seed)
    rows = [render(rng, drawings, px, px, easier if rng.random() < share else level) for _ in range(n)]
    return (np.stack([r[0] for r in rows]), np.array([r[1] for r in rows]), cover(np.stack([r[3] for r in rows])))
