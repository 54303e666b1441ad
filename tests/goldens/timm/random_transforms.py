"""Random preprocessing of timm, for whoever changes how `pretrained_cfg` is read:

    pip install -r requirements.txt && python random_transforms.py FOLDER COUNT SEED
    PROCESSORS=FOLDER cargo test -p patchlight-import processors_from_elsewhere -- --nocapture

COUNT `config.json` with sizes, filters, crops and numbers drawn, some of them left out, and what timm's transform for
evaluation makes of an image: `expected.f32`, planes first.
"""
import json
import pathlib
import random
import shutil
import sys

import numpy as np
import timm
from timm.data import create_transform, resolve_data_config

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "processors"))
from random_processors import picture  # noqa: E402


def main(folder, count, seed):
    folder = pathlib.Path(folder)
    for at in range(int(count)):
        rng = random.Random(f"{seed} timm {at}")
        side = rng.randint(8, 40)
        height, width = (side, side) if rng.random() < 0.5 else (side, rng.randint(8, 40))
        cfg = dict(input_size=[3, height, width], interpolation=rng.choice(["bicubic", "bicubic", "bilinear", "lanczos", "nearest",
                                                                            "box", "hamming", "random"]),
                   crop_pct=rng.choice([0.875, 0.9, 0.95, 1.0, 0.7]), crop_mode=rng.choice(["center", "center", "squash", "border"]),
                   mean=rng.choice([[0.5] * 3, [0.485, 0.456, 0.406], [0.0, 0.1, 0.9]]),
                   std=rng.choice([[0.5] * 3, [0.229, 0.224, 0.225], [1.0, 0.3, 0.7]]))
        for name in [name for name in cfg if name != "input_size" and rng.random() < 0.15]:
            cfg.pop(name)
        path = folder / f"timm-{seed}-{at}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        image = picture(rng)
        image.save(path / "image.png")
        data = resolve_data_config(pretrained_cfg=dict(cfg, input_size=tuple(cfg["input_size"])))
        if data["interpolation"] == "random":
            data["interpolation"] = "bicubic"  # as timm's own validation has it
        pixels = create_transform(**data, is_training=False)(image).numpy().astype(np.float32)
        pixels.tofile(path / "expected.f32")
        (path / "config.json").write_text(json.dumps(dict(architecture="vit_tiny_patch16_224", pretrained_cfg=cfg), indent=1))
        (path / "made.json").write_text(json.dumps(dict(backend="pillow", shape=pixels.shape, loaded=f"timm {timm.__version__}")))


if __name__ == "__main__":
    main(*sys.argv[1:])
