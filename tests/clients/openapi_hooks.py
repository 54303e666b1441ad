"""What schemathesis sends where a schema can only say "bytes" or "a string": real images, damaged ones and junk;
models that are served; the id of a map that is kept; a directory that holds a model."""

import base64
import json
import os
import pathlib
import random
import urllib.request

import schemathesis
from hypothesis import strategies as st

SERVER = os.environ["PATCHLIGHT"]
DIRECTORY = pathlib.Path(os.environ["MODELS"])
IMAGES = [path.read_bytes() for path in sorted((DIRECTORY / "samples").iterdir()) if path.suffix != ".json"]
# A tensor in JSON is long, so most requests bring images.
MODELS = ["demo", "demo_explain"] + 6 * ["demo_image"]

whole = st.sampled_from(IMAGES)
cut = st.builds(lambda image, part: image[: len(image) * part // 100], whole, st.integers(1, 99))
junk = st.binary(min_size=1, max_size=2000)
images = st.one_of(whole, whole, cut, junk)
for kind in ["image/jpeg", "image/png", "image/webp", "image/gif"]:
    schemathesis.openapi.media_type(kind, images)
schemathesis.openapi.media_type("application/octet-stream", images)


def kept():
    """The id of a map, made now."""
    with urllib.request.urlopen(f"{SERVER}/classify?attention=heads", data=IMAGES[0]) as answer:
        return json.load(answer)["id"]


def of_model(model):
    """A body that this name of the model takes."""
    if model == "demo_image":
        data = [base64.b64encode(image).decode() for image in IMAGES[:2]]
        return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": data}]}
    values = [0.5] * (3 * 224 * 224)
    return {"inputs": [{"name": "pixel_values", "datatype": "FP32", "shape": [1, 3, 224, 224], "data": values}]}


def patient(headers):
    """A client that gives up too early gets 503 or 504, rightly."""
    try:
        too_early = 0 < float(headers["Request-Timeout"]) < 60
    except (KeyError, ValueError):
        return
    if too_early:
        headers["Request-Timeout"] = "60"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Half of the requests ask for something that is there; the seed makes the choice the same every time."""
    patient(case.headers)
    chance = random.Random(repr((case.operation.label, case.query, str(case.path_parameters), str(case.body)[:200])))
    if chance.random() < 0.5:
        return
    if case.operation.path == "/admin/models" and case.operation.method.upper() == "POST":
        case.body = {"source": str(DIRECTORY / "demo"), "name": chance.choice(["demo", "extra"])}
        return
    if case.operation.path.startswith("/admin/models/"):
        case.path_parameters["name"] = chance.choice(["demo", "extra"])
        if case.operation.method.upper() == "PUT":
            case.body = {"directory": str(DIRECTORY / "demo")}
        return
    if "id" in (case.path_parameters or {}):
        case.path_parameters["id"] = kept()
    # With most of them nothing else would be looked at.
    for header in ["Request-Timeout", "Inference-Header-Content-Length"]:
        case.headers.pop(header, None)
    if "model" in (case.path_parameters or {}):
        case.path_parameters["model"] = chance.choice(MODELS)
        if "version" in case.path_parameters:
            case.path_parameters["version"] = "1"
        if case.media_type == "application/json" and case.operation.path.endswith("/infer"):
            case.body = of_model(case.path_parameters["model"])
        if case.media_type == "application/octet-stream":
            case.headers["Inference-Header-Content-Length"] = "0"
    if case.operation.path == "/models/{name}":
        case.path_parameters["name"] = "demo"
    if case.operation.path in ("/", "/models/{name}") and case.media_type == "application/json":
        parameters = {"top_k": chance.randint(1, 100), "function_to_apply": chance.choice(["softmax", "sigmoid", "none"])}
        case.body = {"inputs": base64.b64encode(chance.choice(IMAGES)).decode(), "parameters": parameters}
    if case.operation.path == "/classify" and case.media_type == "application/json":
        case.body = {"image": base64.b64encode(chance.choice(IMAGES)).decode()}
