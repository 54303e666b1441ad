"""Cuts squares out of photographs that packages carry: images unlike those that the demo is for.

    python photographs.py --out /tmp/patchlight-photographs [--pictures 600]

The photographs are scikit-image's and scikit-learn's colour ones, of which each square shows between a
quarter and all of the shorter side; written at 224 px, as PNG like the renderings.
"""
import argparse
import pathlib

import numpy as np
import skimage.data
import sklearn.datasets
from PIL import Image

PX = 224
SKIMAGE = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "immunohistochemistry", "stereo_motorcycle")


def photographs():
    for name in SKIMAGE:
        try:
            found = getattr(skimage.data, name)()
        except Exception as error:  # those that the package does not carry are fetched, which fails here
            print(f"left out: {name}: {error}")
            continue
        yield from (image for image in (found if isinstance(found, tuple) else (found,)) if image.ndim == 3 and image.shape[2] == 3)
    yield from sklearn.datasets.load_sample_images().images


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--pictures", type=int, default=600)
    p.add_argument("--seed", type=int, default=606)
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(a.seed)
    found = list(photographs())
    for at in range(a.pictures):
        image = found[at % len(found)]
        height, width, _ = image.shape
        side = int(min(height, width) * rng.uniform(0.25, 1.0))
        top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
        square = Image.fromarray(image[top : top + side, left : left + side])
        square.resize((PX, PX), Image.Resampling.BICUBIC).save(a.out / f"{at:04d}.png")
    print(f"{a.pictures} squares of {len(found)} photographs in {a.out}")


if __name__ == "__main__":
    main()
