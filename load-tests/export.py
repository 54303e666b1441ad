#!/usr/bin/env python3
"""A ViT with random weights as a checkpoint for `patchlight import`, as torch's own export, and that in int8.

    python load-tests/export.py --arch vit-l-16 --out /tmp/vit-l
    patchlight import /tmp/vit-l/checkpoint --precision int8 --out /tmp/vit-l/int8
    python load-tests/peers.py --model /tmp/vit-l/fp32 --int8 /tmp/vit-l/int8 --graph /tmp/vit-l/torch/model.onnx \\
        --int8-graph /tmp/vit-l/torch/int8.onnx --openvino …

For what a guide to the other servers leads to: the float32 graph that `torch.onnx.export` writes, of
the very weights that we serve, and what onnxruntime's `quantize_dynamic` makes of it, a scale for each
channel. Needs torch, transformers, onnx and onnxruntime.
"""

import argparse
import json
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic
from precision import SIZES, torch_export, torch_model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=SIZES, default="vit-l-16")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    checkpoint = args.out / "checkpoint"
    model = torch_model(args.arch)
    model.save_pretrained(checkpoint)
    half, size = [0.5, 0.5, 0.5], {"height": 224, "width": 224}
    preprocessor = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": size, "resample": 2,
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": half, "image_std": half,
    }  # fmt: skip
    (checkpoint / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2))
    print(checkpoint)
    exported = torch_export(args.arch, args.out / "torch/model.onnx", model)
    quantize_dynamic(exported, args.out / "torch/int8.onnx", per_channel=True, weight_type=QuantType.QInt8)
    print(exported.parent)


if __name__ == "__main__":
    main()
