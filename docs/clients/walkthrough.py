# %% [markdown]
# From an image to a plot of where the model looked. Run it cell by cell in an editor that knows `# %%`,
# or as a whole: `python docs/clients/walkthrough.py plot.png`.

# %%
import io
import os
import sys

import matplotlib.pyplot as plt
import numpy as np
import requests
from PIL import Image, ImageOps

SERVER = os.environ.get("PATCHLIGHT", "http://localhost:8080")
target = sys.argv[1] if len(sys.argv) > 1 else "plot.png"

# %% Ask for labels; the map is kept for an hour under a random id.
encoded = open("models/samples/penguin.jpg", "rb").read()
answer = requests.post(f"{SERVER}/classify", data=encoded, timeout=10).json()
best = answer["predictions"][0]
url = SERVER + answer["attention"]["url"]

# %% The rollout as an array: one weight for each patch of the grid.
rollout = np.load(io.BytesIO(requests.get(url, params={"format": "npy"}, timeout=10).content))
print(rollout.shape, rollout.dtype, f"sum {rollout.sum():.4f}")

# %% What spoke for the best label and what against it, in logits.
query = {"format": "npy", "class": best["class_id"]}
evidence = np.load(io.BytesIO(requests.get(url, params=query, timeout=10).content))

# %% Both lie over the region that the model saw, in pixels of the upright image.
image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")
region = answer["image"]["region"]
extent = (region["x"], region["x"] + region["width"], region["y"] + region["height"], region["y"])

figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
axes[0].imshow(image)
axes[0].set_title(f"{best['label']}, {best['score']:.0%}")
for axis, values, title, style in [
    (axes[1], rollout, "looked at", {"cmap": "turbo"}),
    (axes[2], evidence, f"evidence for {best['label']}", {"cmap": "coolwarm", "vmin": -abs(evidence).max(), "vmax": abs(evidence).max()}),
]:
    axis.imshow(image)
    drawn = axis.imshow(values, extent=extent, alpha=0.6, interpolation="bilinear", **style)
    axis.set_title(title)
    figure.colorbar(drawn, ax=axis)
for axis in axes:
    axis.set(xlim=(0, image.width), ylim=(image.height, 0))
    axis.axis("off")
figure.savefig(target, dpi=100)
print("plotted into", target)
