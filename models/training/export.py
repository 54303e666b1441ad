"""Writes the averaged weights of a run as a Hugging Face checkpoint folder.

    python export.py --run /tmp/patchlight-train/stage2.pt --out ../demo/checkpoint [--check]

`--check` loads the folder with the transformers library and compares logits.
"""
import argparse
import pathlib

import torch

import drawings as D
import vit


def check(folder):
    from transformers import ViTForImageClassification, ViTImageProcessor
    m, info = ViTForImageClassification.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    bad = {k: v for k, v in info.items() if v}
    assert not bad, bad
    assert m.config.id2label[0] == D.LABELS[0] and m.config.num_labels == len(D.LABELS)
    ViTImageProcessor.from_pretrained(folder)
    x = torch.rand(4, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        diff = (m.eval()(x).logits - vit.load(folder)(x)).abs().max()
    assert diff < 1e-3, diff
    print(f"transformers: all tensors fit, largest difference of logits {diff:.1e}")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--run", type=pathlib.Path, help="checkpoint of train.py; left out: only check")
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--check", action="store_true")
    a = p.parse_args()
    if a.run:
        saved = torch.load(a.run, weights_only=True)
        vit.export(saved["ema"], D.LABELS, a.out)
        print(f"{a.run} at step {saved['step']} -> {a.out}")
    if a.check:
        check(a.out)


if __name__ == "__main__":
    main()
