"""Everything a stock client does, done by Triton's own: tritonclient from PyPI, unmodified.

    oip.py ADDRESS MODEL SAMPLES

Raises at the first thing that is not as the protocol says. What is expected comes from outside: numpy and
Pillow, the labels file, the protocol, and the agreement of several ways to ask the same.
"""

import json
import pathlib
import sys
import threading
import urllib.request

import numpy as np
import tritonclient.http as http
from PIL import Image
from tritonclient.utils import InferenceServerException

SIDE = 224


def main(address, model, samples):
    samples = pathlib.Path(samples)
    client = http.InferenceServerClient(address, concurrency=8)
    describes_itself(client, model)
    pixels = np.stack([prepared(samples / name) for name in ["dog.jpg", "penguin.jpg", "rocket.jpg"]])
    logits = tensors_in_every_form(client, model, pixels)
    explains(client, model, pixels, logits)
    takes_images(address, client, model, [samples / name for name in ["dog.jpg", "penguin.jpg", "butterfly.png"]])
    classifies(client, model, pixels, logits)
    many_at_once(address, model, pixels, logits)
    counts(client, model, pixels)
    says_what_is_wrong(client, model, pixels)
    image_client_flow(client, model, samples / "penguin.jpg")
    print("everything is as the protocol says")


def prepared(path):
    """As the demo wants it: half of the range is the mean and the deviation."""
    image = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.BILINEAR)
    return (np.asarray(image, np.float32) / 127.5 - 1).transpose(2, 0, 1)


def describes_itself(client, model):
    assert client.is_server_live() and client.is_server_ready()
    names = [model, f"{model}_explain", f"{model}_image"]
    assert all(client.is_model_ready(name) and client.is_model_ready(name, "1") for name in names)
    assert not client.is_model_ready("another") and not client.is_model_ready(model, "2")
    server = client.get_server_metadata()
    assert server["name"] == "patchlight" and "binary_tensor_data" in server["extensions"], server
    assert sorted(entry["name"] for entry in client.get_model_repository_index()) == sorted(names)

    plain, explain, image = (client.get_model_metadata(name) for name in names)
    tensor = {"name": "pixel_values", "datatype": "FP32", "shape": [-1, 3, SIDE, SIDE]}
    assert plain["inputs"] == explain["inputs"] == [tensor], plain
    assert image["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}], image
    classes = plain["outputs"][0]["shape"][1]
    logits = {"name": "logits", "datatype": "FP32", "shape": [-1, classes]}
    rollout = {"name": "rollout", "datatype": "FP32", "shape": [-1, SIDE // 16, SIDE // 16]}
    assert plain["outputs"] == [logits], plain
    assert explain["outputs"] == image["outputs"] == [logits, rollout], explain
    assert client.get_model_metadata(model, "1") == plain
    for name, described in zip(names, [plain, explain, image]):
        config = client.get_model_config(name)
        assert config["name"] == name
        # Triton's rule: the shape is the dimensions, with the batch before them where there is one.
        batch = [-1] if config["max_batch_size"] else []
        for kind, tensors in [("input", described["inputs"]), ("output", described["outputs"])]:
            assert [batch + tensor["dims"] for tensor in config[kind]] == [tensor["shape"] for tensor in tensors]


def ask(client, model, pixels, binary_in=True, binary_out=True, **more):
    tensor = http.InferInput("pixel_values", pixels.shape, "FP32")
    tensor.set_data_from_numpy(pixels, binary_data=binary_in)
    outputs = [http.InferRequestedOutput("logits", binary_data=binary_out)]
    return client.infer(model, [tensor], outputs=outputs, **more)


def tensors_in_every_form(client, model, pixels):
    logits = ask(client, model, pixels).as_numpy("logits")
    assert logits.dtype == np.float32 and logits.shape[0] == len(pixels) and np.isfinite(logits).all()
    # The rows of a request are independent of each other.
    for row, alone in zip(logits, pixels):
        close(ask(client, model, alone[None]).as_numpy("logits")[0], row)
    for coding in [None, "gzip", "deflate"]:
        for binary_in, binary_out in [(True, True), (True, False), (False, True), (False, False)]:
            answer = ask(
                client, model, pixels[:1], binary_in, binary_out, request_id=f"{coding}-{binary_in}",
                request_compression_algorithm=coding, response_compression_algorithm=coding,
            )
            close(answer.as_numpy("logits")[0], logits[0])
            said = answer.get_response()
            assert said["id"] == f"{coding}-{binary_in}" and said["model_name"] == model, said
            assert said["model_version"] == "1" and ("data" in said["outputs"][0]) != binary_out, said
    # Without outputs the client asks for all of them in binary.
    tensor = http.InferInput("pixel_values", pixels.shape, "FP32")
    tensor.set_data_from_numpy(pixels)
    close(client.infer(model, [tensor]).as_numpy("logits"), logits)
    waiting = [client.async_infer(model, [tensor], request_id=str(n)) for n in range(6)]
    for n, one in enumerate(waiting):
        answer = one.get_result()
        assert answer.get_response()["id"] == str(n)
        close(answer.as_numpy("logits"), logits)
    return logits


def explains(client, model, pixels, logits):
    tensor = http.InferInput("pixel_values", pixels.shape, "FP32")
    tensor.set_data_from_numpy(pixels)
    answer = client.infer(f"{model}_explain", [tensor])
    close(answer.as_numpy("logits"), logits)
    rollout = answer.as_numpy("rollout")
    assert rollout.shape == (len(pixels), SIDE // 16, SIDE // 16)
    # Weights of a mean: none below 0, and what is missing from 1 stayed on the class token.
    assert (rollout >= 0).all() and (rollout.sum((1, 2)) <= 1 + 1e-5).all() and (rollout.sum((1, 2)) > 0).all()


def takes_images(address, client, model, paths):
    encoded = np.array([path.read_bytes() for path in paths], dtype=np.object_)
    for shape in [(len(paths),), (len(paths), 1)]:
        image = http.InferInput("image", shape, "BYTES")
        image.set_data_from_numpy(encoded.reshape(shape))
        answer = client.infer(f"{model}_image", [image])
        rollout, logits = answer.as_numpy("rollout"), answer.as_numpy("logits")
        assert len(logits) == len(rollout) == len(paths)
    # The best label is that of POST /classify, over another protocol.
    outputs = [http.InferRequestedOutput("logits", class_count=1)]
    image = http.InferInput("image", [len(paths)], "BYTES")
    image.set_data_from_numpy(encoded)
    labels = [row[0].decode().split(":")[2] for row in client.infer(f"{model}_image", [image], outputs=outputs).as_numpy("logits")]
    for path, label in zip(paths, labels):
        url = f"http://{address}/classify?top_k=1&attention=none"
        with urllib.request.urlopen(url, data=path.read_bytes()) as answer:
            assert json.load(answer)["predictions"][0]["label"] == label, path


def classifies(client, model, pixels, logits):
    tensor = http.InferInput("pixel_values", pixels.shape, "FP32")
    tensor.set_data_from_numpy(pixels)
    for binary in [True, False]:
        outputs = [http.InferRequestedOutput("logits", binary_data=binary, class_count=3)]
        best = client.infer(model, [tensor], outputs=outputs).as_numpy("logits")
        assert best.shape == (len(pixels), 3)
        for row, texts in zip(logits, best):
            for index, text in zip(np.argsort(-row, kind="stable"), texts):
                value, class_id, label = (text.decode() if isinstance(text, bytes) else text).split(":", 2)
                assert int(class_id) == index and label and abs(float(value) - row[index]) < 1e-3, text
    outputs = [http.InferRequestedOutput("logits", class_count=10_000)]
    assert client.infer(model, [tensor], outputs=outputs).as_numpy("logits").shape == logits.shape


def many_at_once(address, model, pixels, logits):
    failures = []

    def worker(at):
        try:
            # One client a thread: its greenlets belong to the thread that made them.
            with http.InferenceServerClient(address) as own:
                for _ in range(3):
                    close(ask(own, model, pixels[at : at + 1]).as_numpy("logits")[0], logits[at])
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=worker, args=(at % len(pixels),)) for at in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def counts(client, model, pixels):
    def read():
        [entry] = client.get_inference_statistics(model)["model_stats"]
        return entry

    before = read()
    ask(client, model, pixels)
    refused(lambda: ask(client, model, pixels[:, :, :8, :8]), 400)
    after = read()
    changed = {name: after[name] - before[name] for name in ["inference_count", "execution_count"]}
    # Three rows ran, in at most three batches, and a refused request ran none.
    assert changed["inference_count"] == len(pixels) and 1 <= changed["execution_count"] <= len(pixels), changed
    for name in ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output"]:
        assert after["inference_stats"][name]["count"] - before["inference_stats"][name]["count"] == 1, name
    runs = sum(size["compute_infer"]["count"] for size in after["batch_stats"])
    assert runs == after["execution_count"] and after["last_inference"] >= before["last_inference"] > 0
    names = [entry["name"] for entry in client.get_inference_statistics()["model_stats"]]
    assert sorted(names) == sorted([model, f"{model}_explain", f"{model}_image"]), names


def says_what_is_wrong(client, model, pixels):
    refused(lambda: client.get_model_metadata("another"), 404, "another")
    refused(lambda: client.get_model_metadata(model, "7"), 404)
    refused(lambda: ask(client, "another", pixels), 404)
    refused(lambda: ask(client, model, pixels[0]), 400, "instead of")
    refused(lambda: ask(client, model, np.full_like(pixels[:1], np.nan)), 400, "finite")
    refused(lambda: ask(client, model, np.concatenate([pixels] * 6)[:17]), 400, "rows")
    # A microsecond is over before anything has run.
    refused(lambda: ask(client, model, pixels[:1], timeout=1), 504, "deadline")
    wrong = http.InferInput("other", pixels.shape, "FP32")
    wrong.set_data_from_numpy(pixels)
    refused(lambda: client.infer(model, [wrong]), 400, "pixel_values")
    image = http.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array([b"no image"], dtype=np.object_))
    refused(lambda: client.infer(f"{model}_image", [image]), 415)


def image_client_flow(client, model, path):
    """The calls that Triton's image_client.py makes, in its order (it lies in their repository, not in the package)."""
    metadata, config = client.get_model_metadata(model), client.get_model_config(model)
    [given], [wanted] = metadata["inputs"], metadata["outputs"]
    [configured] = config["input"]
    assert wanted["datatype"] == "FP32" and len(wanted["shape"]) == 2 and config["max_batch_size"] > 0
    assert configured["format"] == "FORMAT_NCHW" and len(given["shape"]) == 4
    _, _, height, width = given["shape"]
    image = Image.open(path).convert("RGB").resize((width, height), Image.BILINEAR)
    scaled = np.array(image).astype(np.float32) / 127.5 - 1
    batch = np.stack([scaled.transpose(2, 0, 1)] * 2)
    tensor = http.InferInput(given["name"], batch.shape, given["datatype"])
    tensor.set_data_from_numpy(batch)
    outputs = [http.InferRequestedOutput(wanted["name"], class_count=5)]
    answer = client.infer(model, [tensor], request_id="1", model_version="", outputs=outputs)
    rows = answer.as_numpy(wanted["name"])
    assert answer.get_response()["id"] == "1" and rows.shape == (2, 5) and rows.dtype == np.object_
    for row in rows:
        assert "".join(chr(byte) for byte in row[0]).split(":")[2] == "penguin", row


def refused(call, status, word=""):
    try:
        call()
    except InferenceServerException as refusal:
        assert refusal.status() == str(status), (status, refusal)
        assert word in refusal.message(), refusal
    else:
        raise AssertionError(f"nothing was wrong, {status} was expected")


def close(found, expected):
    # Batches of different sizes add in different orders.
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


if __name__ == "__main__":
    main(*sys.argv[1:])
