"""Random processors of transformers, for whoever changes how their files are read:

    pip install -r requirements.txt && python random_processors.py FOLDER COUNT SEED
    PROCESSORS=FOLDER cargo test -p patchlight-import processors_from_elsewhere -- --nocapture

Of each class COUNT files with steps, sizes, filters and numbers drawn, some of them left out; and what the class makes
of an image, on Pillow's images and on torchvision's tensors: `expected.f32`, planes first.
"""
import json
import pathlib
import random
import shutil
import sys

import numpy as np
import transformers
from PIL import Image
from transformers import AutoImageProcessor

CLASSES = ["ViT", "DeiT", "Beit", "CLIP", "Bit", "Siglip", "ConvNext", "EfficientNet", "MobileNetV1", "MobileNetV2",
           "MobileViT", "Levit", "PoolFormer"]
SQUARES = {"ViT", "DeiT", "Beit", "Siglip", "EfficientNet"}


def picture(rng):
    width, height = rng.choice([(rng.randint(8, 90), rng.randint(8, 90)), (rng.randint(40, 60),) * 2])
    kinds = np.random.default_rng(rng.randrange(1 << 30))
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9 + y / 23), np.cos(x / 31 - y / 7), np.sign(np.sin((x + 2 * y) / 40))], -1)
    noise = kinds.normal(0, rng.choice([0, 0.05, 0.3]), waves.shape)
    return Image.fromarray((127.5 * (1 + np.clip(waves + noise, -1, 1))).astype(np.uint8))


def steps(rng, stem):
    side = rng.randint(6, 40)
    sides = dict(height=rng.randint(6, 40), width=rng.randint(6, 40)) if rng.random() < 0.4 else dict(height=side, width=side)
    fields = dict(do_resize=True, do_rescale=rng.random() < 0.9, do_normalize=rng.random() < 0.9, rescale_factor=rng.choice(
        [1 / 255, 1 / 255, 1 / 127.5, 1 / 128]), image_mean=rng.choice([[0.5] * 3, [0.485, 0.456, 0.406], [0.0, 0.1, 0.9]]),
        image_std=rng.choice([[0.5] * 3, [0.229, 0.224, 0.225], [1.0, 0.3, 0.7]]), resample=rng.choice([0, 1, 2, 3, 3, 3, 4, 5]))
    shortest = stem not in SQUARES or rng.random() < 0.3
    if stem == "ConvNext":
        fields.update(size=dict(shortest_edge=rng.choice([side, side, 384])), crop_pct=rng.choice([0.875, 0.9, 0.7, 1.0]))
    elif shortest:
        crop = rng.randint(5, 42)
        fields.update(size=dict(shortest_edge=side), do_center_crop=True, crop_size=rng.choice(
            [dict(height=crop, width=crop), dict(height=rng.randint(5, 42), width=rng.randint(5, 42))]))
    else:
        fields.update(size=sides, do_center_crop=rng.random() < 0.3, crop_size=dict(height=rng.randint(5, 42), width=rng.randint(5, 42)))
    if stem == "EfficientNet":
        fields.update(rescale_offset=rng.random() < 0.4, include_top=rng.random() < 0.5)
    if stem == "MobileViT":
        fields.update(do_flip_channel_order=rng.random() < 0.7)
    dropped = [name for name in fields if rng.random() < rng.choice([0, 0, 0, 0.3])]
    if "size" in dropped and "crop_size" not in dropped and rng.random() < 0.5:
        dropped.append("crop_size")
    for name in dropped:
        fields.pop(name, None)
    return fields


def main(folder, count, seed):
    folder, failed = pathlib.Path(folder), {}
    for stem in CLASSES:
        for at in range(int(count)):
            rng = random.Random(f"{seed} {stem} {at}")
            name = stem + rng.choice(["ImageProcessor", "ImageProcessor", "ImageProcessorFast"])
            config = dict(image_processor_type=name, **steps(rng, stem))
            for backend in ("torchvision", "pil"):
                path = folder / f"{stem}-{seed}-{at}-{backend}"
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir(parents=True)
                (path / "preprocessor_config.json").write_text(json.dumps(config, indent=1))
                (path / "config.json").write_text(json.dumps(dict(transformers_version=transformers.__version__)))
                image = picture(random.Random(f"{seed} {stem} {at} picture"))
                image.save(path / "image.png")
                try:
                    processor = AutoImageProcessor.from_pretrained(path, backend=backend)
                    pixels = np.asarray(processor(image, return_tensors="pt")["pixel_values"][0], dtype=np.float32)
                except Exception as error:
                    failed.setdefault(f"{stem} {backend}: {type(error).__name__} {str(error)[:90]}", []).append(at)
                    shutil.rmtree(path)
                    continue
                pixels.tofile(path / "expected.f32")
                (path / "made.json").write_text(json.dumps(dict(backend="torchvision" if backend == "torchvision" else "pillow",
                                                                shape=pixels.shape, loaded=type(processor).__name__)))
    for what, which in sorted(failed.items()):
        print(len(which), what)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    main(*sys.argv[1:])
