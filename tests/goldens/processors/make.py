"""What the processors of transformers make of small pictures, by the library that each really runs with.

    pip install -r requirements.txt && python make.py       # transformers 5
    pip install -r requirements-4.txt && python make.py     # transformers 4, in an environment of its own

`transformers-N.json` has, for each `preprocessor_config.json` that a checkpoint of that version may have,
the class that `AutoImageProcessor` loads, the module that its resize is written in ("torchvision" or "pil"), and
the input that it makes of a picture: the bits of each float32, planes first.

`resize.json` (of transformers 5 only) has torchvision's own resize of uint8 tensors, with antialiasing: pixels.

Pillow is 12.1, since Pillow 13 resizes rows before columns for some shapes.
"""
import json
import pathlib
import shutil
import tempfile

import numpy as np
import torch
import transformers
from PIL import Image
from torchvision.transforms.v2 import functional as tvF
from transformers import AutoImageProcessor

HERE = pathlib.Path(__file__).parent
PICTURES = HERE.parent / "pillow"
MAJOR = int(transformers.__version__.split(".")[0])

STEPS = dict(do_normalize=True, do_rescale=True, do_resize=True, image_mean=[0.485, 0.456, 0.406],
             image_std=[0.229, 0.224, 0.225], rescale_factor=1 / 255, resample=3)
SQUARE = dict(size=dict(height=12, width=8))
CROP = dict(do_center_crop=True, size=dict(shortest_edge=14), crop_size=dict(height=9, width=9))
PADDED = dict(do_center_crop=True, size=dict(shortest_edge=8), crop_size=dict(height=11, width=11))
NAMES = {
    "none": {},
    "ViTFeatureExtractor": dict(feature_extractor_type="ViTFeatureExtractor"),
    "ViTImageProcessor, use_fast true": dict(image_processor_type="ViTImageProcessor", use_fast=True),
    "ViTImageProcessorFast, use_fast false": dict(image_processor_type="ViTImageProcessorFast", use_fast=False),
}


def cases():
    for name, fields in NAMES.items():
        yield name, {**STEPS, **SQUARE, **fields}
    for stem in ["ViT", "DeiT", "Beit", "CLIP", "Bit", "ConvNext"]:
        for name in [f"{stem}ImageProcessor", f"{stem}ImageProcessorFast"]:
            fields = dict(image_processor_type=name)
            if stem in ("CLIP", "Bit"):
                for steps in (CROP, PADDED):
                    yield name, {**STEPS, **steps, **fields}
            elif stem == "ConvNext":
                yield name, {**STEPS, **fields, "size": dict(shortest_edge=9), "crop_pct": 0.7}
                yield name, {**STEPS, **fields, "size": dict(shortest_edge=9), "resample": 2}
            elif stem == "DeiT":
                yield name, {**STEPS, **fields, "do_center_crop": True, "size": dict(height=15, width=14),
                             "crop_size": dict(height=8, width=9)}
            else:
                for resample in (1, 2, 3):
                    if resample == 1 and MAJOR == 4 and name.endswith("Fast"):
                        continue  # version 4 takes bicubic for it, with a warning; version 5 does not
                    yield name, {**STEPS, **SQUARE, **fields, "do_center_crop": False, "resample": resample}
                yield name, {**STEPS, **SQUARE, **fields, "do_center_crop": False, "do_normalize": False}
                yield name, {**STEPS, **SQUARE, **fields, "do_center_crop": False, "do_rescale": False}


def backend(processor):
    modules = [base.__module__ for base in type(processor).__mro__]
    torchvision = any(base.__name__ in ("TorchvisionBackend", "BaseImageProcessorFast") for base in type(processor).__mro__)
    assert torchvision or any(module.startswith("transformers.") for module in modules)
    return "torchvision" if torchvision else "pillow"


def main():
    pictures = ["resize/noise.png", "pipeline/120x90.png"]
    found = []
    for name, config in cases():
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "preprocessor_config.json").write_text(json.dumps(config))
            transformers.ViTConfig().save_pretrained(folder)
            processor = AutoImageProcessor.from_pretrained(folder)
        for picture in pictures:
            image = Image.open(PICTURES / picture).convert("RGB")
            pixels = processor(image, return_tensors="np" if backend(processor) == "pillow" else "pt")["pixel_values"][0]
            pixels = np.asarray(pixels)
            assert pixels.dtype == np.float32, (name, pixels.dtype)
            found.append(dict(name=name, config=config, loaded=type(processor).__name__, backend=backend(processor),
                              input=picture, shape=pixels.shape, bits=pixels.view(np.uint32).flatten().tolist()))
    numbers = dict(transformers=transformers.__version__, cases=found)
    (HERE / f"transformers-{MAJOR}.json").write_text(json.dumps(numbers) + "\n")
    if MAJOR > 4:
        resizes()


def resizes():
    shutil.rmtree(HERE / "resize", ignore_errors=True)
    (HERE / "resize").mkdir()
    cases = json.loads((PICTURES / "resize.json").read_text())
    done = []
    for case in cases:
        planes = np.array(Image.open(PICTURES / case["input"]).convert("RGB")).transpose(2, 0, 1)
        image = torch.from_numpy(np.ascontiguousarray(planes))
        if 1 in (*image.shape, case["height"], case["width"]):
            continue  # torch 2.15 fails on it: "num_channels == unpacked_output.size(0)"
        filter_ = tvF.InterpolationMode[case["filter"].upper()]
        resized = tvF.resize(image, [case["height"], case["width"]], interpolation=filter_, antialias=True)
        Image.fromarray(resized.permute(1, 2, 0).numpy()).save(HERE / case["expected"], optimize=True)
        done.append(case)
    (HERE / "resize.json").write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main()
