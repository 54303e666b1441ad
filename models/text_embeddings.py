"""Makes a classifier of labels for a network that compares images with texts (CLIP, SigLIP and their successors):

    pip install torch transformers safetensors sentencepiece
    python text_embeddings.py CHECKPOINT labels.txt texts.safetensors --template "a photo of a {}."
    patchlight import CHECKPOINT --text-embeddings texts.safetensors --out models/zero-shot

CHECKPOINT is a directory or a name on the Hub, labels.txt has one label a line. With several templates a label's
embedding is the mean of those of its texts, each of length 1, as the authors of CLIP do it. The file holds
`embeddings` [labels, width], `logit_scale` and `logit_bias` as the network has them, and the labels as a JSON list in
its metadata.
"""
import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file


def embeddings(model, **inputs):
    """Of tokenized texts, each of length 1: [texts, width]."""
    with torch.no_grad():
        features = model.get_text_features(**inputs)
    features = features if isinstance(features, torch.Tensor) else features.pooler_output
    return features / features.norm(dim=-1, keepdim=True)


def save(path, model, labels, rows):
    """rows: [labels, width]"""
    tensors = {"embeddings": rows.float().contiguous()}
    for name in ("logit_scale", "logit_bias"):
        if getattr(model, name, None) is not None:
            tensors[name] = getattr(model, name).detach().float().reshape(1).clone()
    save_file(tensors, str(path), metadata={"labels": json.dumps(labels)})


def main():
    from transformers import AutoModel, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("labels", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--template", action="append", help="text of a label, with {} for the label; may be repeated")
    arguments = parser.parse_args()
    labels = [line for line in arguments.labels.read_text(encoding="utf-8").splitlines() if line.strip()]
    templates = arguments.template or ["This is a photo of {}."]
    model = AutoModel.from_pretrained(arguments.checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.checkpoint)
    # SigLIP was trained with texts that are filled up to the longest.
    padding = "max_length" if "siglip" in model.config.model_type else True
    rows = []
    for label in labels:
        texts = [template.format(label) for template in templates]
        inputs = tokenizer(texts, padding=padding, truncation=True, return_tensors="pt")
        rows.append(embeddings(model, **inputs).mean(0))
    save(arguments.out, model, labels, torch.stack(rows))


if __name__ == "__main__":
    main()
