"""What schemathesis sends where a schema can only say "bytes" or "a string": real pictures, damaged ones and junk;
models that are served; the id of a map that is kept."""

import base64
import json
import os
import pathlib
import random
import urllib.request

import schemathesis
from hypothesis import strategies as st

SERVER = os.environ["PATCHLIGHT"]
PICTURES = [path.read_bytes() for path in sorted(pathlib.Path(os.environ["SAMPLES"]).iterdir()) if path.suffix != ".json"]
MODELS = ["demo", "demo_explain", "demo_image"]

whole = st.sampled_from(PICTURES)
cut = st.builds(lambda picture, part: picture[: len(picture) * part // 100], whole, st.integers(1, 99))
junk = st.binary(min_size=1, max_size=2000)
pictures = st.one_of(whole, whole, cut, junk)
for kind in ["image/jpeg", "image/png", "image/webp", "image/gif"]:
    schemathesis.openapi.media_type(kind, pictures)
schemathesis.openapi.media_type("application/octet-stream", pictures)


def kept():
    """The id of a map, made now."""
    with urllib.request.urlopen(f"{SERVER}/classify?attention=heads", data=PICTURES[0]) as answer:
        return json.load(answer)["id"]


def of_model(model):
    """A body that this name of the model takes."""
    if model == "demo_image":
        data = [base64.b64encode(picture).decode() for picture in PICTURES[:2]]
        return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": data}]}
    values = [0.5] * (3 * 224 * 224)
    return {"inputs": [{"name": "pixel_values", "datatype": "FP32", "shape": [1, 3, 224, 224], "data": values}]}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Half of the requests ask for something that is there; the seed makes the choice the same every time."""
    chance = random.Random(repr((case.operation.label, case.query, str(case.path_parameters), str(case.body)[:200])))
    if chance.random() < 0.5:
        return
    if "id" in (case.path_parameters or {}):
        case.path_parameters["id"] = kept()
    if "model" in (case.path_parameters or {}):
        case.path_parameters["model"] = chance.choice(MODELS)
        if "version" in case.path_parameters:
            case.path_parameters["version"] = "1"
        if case.media_type == "application/json" and case.operation.path.endswith("/infer"):
            case.body = of_model(case.path_parameters["model"])
        if case.media_type == "application/octet-stream":
            case.headers["Inference-Header-Content-Length"] = "0"
    if case.operation.path == "/classify" and case.media_type == "application/json":
        case.body = {"image": base64.b64encode(chance.choice(PICTURES)).decode()}
