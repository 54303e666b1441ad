"""Writes rendered images with their masks and boxes, for `patchlight evaluate`.

    python images.py --work /tmp/patchlight-train --out /tmp/patchlight-pictures [--pictures 400] [--known]

The images are those of `render.EVAL` at 224 px, half of them of the artists of the training and half
of the artist that training never saw, or with --known (for `patchlight calibrate`) all of the former; the seed is none that training or evaluate.py uses. PNG, since
JPEG would add artefacts to those that the renderer makes.
"""
import argparse
import json
import pathlib

import numpy as np
from PIL import Image

import drawings as D
import render as R

PX = 224


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--work", type=pathlib.Path, required=True, help="folder with drawings.npz")
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--pictures", type=int, default=400)
    p.add_argument("--seed", type=int, default=404)
    p.add_argument("--known", action="store_true", help="only of the artists of the training")
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(a.seed)
    artists = [D.TRAIN_ARTISTS] if a.known else [D.TRAIN_ARTISTS, (D.HELD_OUT_ARTIST,)]
    sets = [R.Drawings(a.work / "drawings.npz", artists) for artists in artists]
    listing = []
    for at in range(a.pictures):
        img, k, box, mask = R.render(rng, sets[at % len(sets)], PX, PX, R.EVAL)
        name = f"{at:04d}-{D.LABELS[k].replace(' ', '-')}"
        Image.fromarray(img).save(a.out / f"{name}.png")
        Image.fromarray(np.round(mask * 255).astype(np.uint8)).save(a.out / f"{name}.mask.png")
        listing.append({"file": f"{name}.png", "label": D.LABELS[k], "class_id": k, "box": box,
                        "mask": f"{name}.mask.png", "seen_in_training": at % len(sets) == 0})
    (a.out / "pictures.json").write_text("[\n" + ",\n".join("  " + json.dumps(e) for e in listing) + "\n]\n")
    print(f"{len(listing)} images in {a.out}")


if __name__ == "__main__":
    main()
