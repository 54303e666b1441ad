"""Writes rendered images with their masks and boxes, for `patchlight evaluate`.

    python images.py --work /tmp/patchlight-train --out /tmp/patchlight-pictures [--pictures 400]

The images are those of `render.EVAL` at 224 px, half of them of the artists of the training and half
of the artist that training never saw; the seed is none that training or evaluate.py uses. PNG, since
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
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(a.seed)
    sets = [R.Drawings(a.work / "drawings.npz", artists) for artists in (D.TRAIN_ARTISTS, (D.HELD_OUT_ARTIST,))]
    listing = []
    for at in range(a.pictures):
        img, k, box, mask = R.render(rng, sets[at % 2], PX, PX, R.EVAL)
        name = f"{at:04d}-{D.LABELS[k].replace(' ', '-')}"
        Image.fromarray(img).save(a.out / f"{name}.png")
        Image.fromarray(np.round(mask * 255).astype(np.uint8)).save(a.out / f"{name}.mask.png")
        listing.append({"file": f"{name}.png", "label": D.LABELS[k], "class_id": k, "box": box,
                        "mask": f"{name}.mask.png", "seen_in_training": at % 2 == 0})
    (a.out / "pictures.json").write_text("[\n" + ",\n".join("  " + json.dumps(e) for e in listing) + "\n]\n")
    print(f"{len(listing)} images in {a.out}")


if __name__ == "__main__":
    main()
