#!/usr/bin/env python3
"""Hugging Face's own client of the image classification task, unmodified, against the demo model.

    hf_task.py ADDRESS IMAGE
"""

import json
import sys
import urllib.request

from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError


def main(address, image):
    server = f"http://{address}"
    with urllib.request.urlopen(f"{server}/classify?top_k=5", data=open(image, "rb").read()) as answer:
        expected = [(label["label"], label["score"]) for label in json.load(answer)["predictions"]]

    for url in [server, f"{server}/models/demo"]:
        client = InferenceClient(base_url=url)
        labels = client.image_classification(image)
        assert [(label.label, label.score) for label in labels] == expected, labels
        # Parameters make it send base64 in JSON.
        labels = client.image_classification(image, top_k=2, function_to_apply="softmax")
        assert [(label.label, label.score) for label in labels] == expected[:2], labels
    labels = InferenceClient(model=f"{server}/models/demo").image_classification(
        open(image, "rb").read(), top_k=1, function_to_apply="none")
    assert labels[0].label == expected[0][0] and labels[0].score > 1, labels

    for url, image, status, word in [
        (f"{server}/models/nobody", image, 404, "nobody"),
        (server, b"this is no image", 415, "not an image"),
    ]:
        try:
            InferenceClient(base_url=url).image_classification(image)
        except HfHubHTTPError as error:
            assert error.response.status_code == status, error
            assert error.response.json()["error"] in str(error), error
        else:
            raise AssertionError(f"{url} answered")


if __name__ == "__main__":
    main(*sys.argv[1:])
