#!/usr/bin/env python3
"""Writes what each fuzz target starts from: what the other tests and the demo have, and a little made here.

    tests/fuzz/seeds.py FOLDER      makes FOLDER/TARGET/*
"""

import base64
import gzip
import hashlib
import json
import struct
import sys
import zipfile
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests/goldens"
IMAGES = [".png", ".jpg", ".webp", ".gif", ".bmp", ".tiff"]

# Longer ones are mutated slowly, and mostly where nothing is decided.
MAX_IMAGE_BYTES = 16 << 10
MAX_GRAPH_BYTES = 72 << 10


def main(folder):
    targets = {
        "image": images(),
        "body": bodies(),
        "manifest": manifests(),
        "checkpoint": checkpoints(),
        "graph": graphs(),
        "oip": inference_requests(),
        "grpc": grpc_messages(),
        "map_codec": map_codec(),
        "connection": connections(),
    }
    for target, seeds in targets.items():
        directory = folder / target
        directory.mkdir(parents=True, exist_ok=True)
        count = 0
        for seed in seeds:
            (directory / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
            count += 1
        print(f"{target}: {count} seeds")


def files(endings, *folders):
    for folder in folders:
        yield from sorted(path for path in folder.rglob("*") if path.suffix in endings)


def images():
    for path in files(IMAGES, GOLDENS / "pillow", GOLDENS / "bmp_tiff", GOLDENS / "jpeg", GOLDENS / "images", ROOT / "models/samples"):
        if path.stat().st_size <= MAX_IMAGE_BYTES:
            yield path.read_bytes()


def connections():
    """A byte that says how the client behaves (src/fuzzing/connection.rs), then what it sends."""
    one = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\nExpect: 100-continue\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000,
    ]
    frame = lambda kind, flags, stream, payload=b"": (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
    get, post = bytes.fromhex("828684"), bytes.fromhex("838684")
    two = [
        hello,
        hello + frame(1, 5, 1, get) + frame(1, 5, 3, get),
        hello + frame(1, 4, 1, post) + frame(0, 0, 1, b"abc") + frame(0, 1, 1, b"def"),
        hello + frame(4, 0, 0, bytes.fromhex("000400000000")) + frame(1, 5, 1, get) + frame(8, 0, 1, bytes.fromhex("00000001")),
        hello + frame(1, 1, 1, get[:1]) + frame(9, 4, 1, get[1:]) + frame(6, 0, 0, b"abcdefgh"),
        hello + b"".join(frame(1, 5, n, get) + frame(3, 0, n, bytes(4)) for n in range(1, 99, 2)),
    ]
    for number, request in enumerate(one + two):
        for behavior in (0, 2, 6, 10, 0x53):
            yield bytes([behavior ^ (number & 1)]) + request


def small_image():
    return (GOLDENS / "images/small-5x7.png").read_bytes()


def grpc_messages():
    """A byte that says which variant of the model, and a message that Triton's own classes encoded."""
    for path in files([".binpb"], GOLDENS / "grpc"):
        for variant in range(3):
            yield bytes([variant]) + path.read_bytes()


def bodies():
    """A content type, a line feed, a body."""
    image = small_image()
    text = base64.b64encode(image).decode()

    def part(name, content):
        head = f'--B\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
        return head.encode() + content + b"\r\n"

    multipart = b"multipart/form-data; boundary=B\n"
    yield multipart + part("image", image) + b"--B--\r\n"
    yield multipart + part("image", b"1") + part("file", b"2") + b"--B--\r\n"
    yield multipart + part("other", b"1") + b"--B--\r\n"
    yield multipart + part("image", b"1") * 17 + b"--B--\r\n"
    yield b'multipart/form-data; charset=utf-8; boundary="a b"\n--a b\r\n\r\n\r\n--a b--'
    for body in ({"image": text}, {"image": f"data:image/png;base64,{text}"}, {"image": ""}, {"image": 1}, {"images": []}):
        yield b"application/json\n" + json.dumps(body).encode()
    yield b'application/json; charset=utf-8\n{"image":"\\u0041\\ud83d\\ude00A="}'
    yield b"image/png\n" + image
    yield b"\n" + image


def manifests():
    demo = (ROOT / "models/demo/model.toml").read_text()
    yield demo.encode()
    yield (ROOT / "models/demo/labels.txt").read_bytes()
    edge = 'mode = "shortest-edge"\nsize = 248\n[preprocess.crop]\nheight = 224\nwidth = 224\nrounding = "half-even"'
    yield demo.replace('mode = "squash"\nheight = 224\nwidth = 224', edge).encode()
    check = "[provenance.check]\npictures = 8\ntop1_agreement = 1.0\nscore_drift = nan\nmap_drift = 1e-9\n"
    yield (demo.rstrip() + "\n" + check).encode()


def checkpoints():
    """A letter that says which reader, and what it reads."""
    for path in files([".safetensors"], GOLDENS):
        if path.stat().st_size < 21_000:
            yield b"s" + path.read_bytes()
    yield b"s" + safetensors({"a": ("F32", [2, 2]), "b": ("BF16", [3]), "c": ("I64", [0])})
    for path in files([".bin", ".pth"], GOLDENS):
        # torch before 1.6 wrote no archives.
        if not zipfile.is_zipfile(path):
            continue
        with zipfile.ZipFile(path) as archive:
            (program,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
            yield b"p" + archive.read(program)
    yield b"t" + (GOLDENS / "timm/tanh/pytorch_model.bin").read_bytes()
    for path in files([".npy"], GOLDENS / "npy"):
        yield b"n" + path.read_bytes()
    yield b"n" + npy("|V2", "(2, 3)", bytes(12))
    yield b"n" + npy("<f4", "()", bytes(4), fortran=True)
    yield b"z" + (GOLDENS / "jax/big_vision_stacked.npz").read_bytes()
    for path in GOLDENS.rglob("*.index.json"):
        yield b"i" + path.read_bytes()


def safetensors(tensors):
    sizes = {"F32": 4, "BF16": 2, "I64": 8}
    header, end = {}, 0
    for name, (kind, shape) in tensors.items():
        length = sizes[kind]
        for side in shape:
            length *= side
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + length]}
        end += length
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def npy(kind, shape, values, fortran=False):
    header = f"{{'descr': '{kind}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values


def graphs():
    for path in files([".onnx"], GOLDENS / "onnx", GOLDENS / "exported"):
        # A graph's shape counts here, its weights do not.
        graph = without(path.read_bytes(), [7, 5, 9])
        if len(graph) <= MAX_GRAPH_BYTES:
            yield graph


def inference_requests():
    """A line with the model's variant, the body's content encoding and the length of the JSON; then the body."""
    image = small_image()
    values = [0.5] * 12

    def request(name, kind, shape, **more):
        return {"id": "1", "inputs": [{"name": name, "datatype": kind, "shape": shape, **more}]}

    def line(variant, encoding="-", length="-"):
        return f"{variant} {encoding} {length}\n".encode()

    plain = json.dumps(request("pixel_values", "FP32", [1, 3, 2, 2], data=values)).encode()
    yield line("plain") + plain
    yield line("plain", "gzip") + gzip.compress(plain, mtime=0)
    yield line("plain", "deflate") + zlib.compress(plain)
    yield line("plain", length=0) + struct.pack("<12f", *values)
    binary = request("pixel_values", "FP32", [2, 3, 2, 2], parameters={"binary_data_size": 96})
    binary["outputs"] = [{"name": "logits", "parameters": {"binary_data": True, "classification": 3}}]
    binary["parameters"] = {"binary_data_output": True, "timeout": 1000}
    text = json.dumps(binary).encode()
    yield line("plain", length=len(text)) + text + struct.pack("<24f", *values * 2)
    nested = request("pixel_values", "FP32", [1, 3, 2, 2], data=[[[[1, 2], [3, 4]]] * 3])
    nested["outputs"] = [{"name": "rollout"}]
    yield line("explain") + json.dumps(nested).encode()
    strings = request("image", "BYTES", [2, 1], data=[base64.b64encode(image).decode()] * 2)
    yield line("image") + json.dumps(strings).encode()
    size = 4 + len(image)
    text = json.dumps(request("image", "BYTES", [1], parameters={"binary_data_size": size})).encode()
    yield line("image", length=len(text)) + text + struct.pack("<I", len(image)) + image


def map_codec():
    """`i` and an id, or another byte and a map as it lies in Redis (src/store/codec.rs)."""
    yield b"iAAAAAAAAAAAAAAAAAAAAAA"
    yield b"i" + base64.urlsafe_b64encode(bytes(200)).rstrip(b"=")

    def floats(count):
        return struct.pack(f"<{count}f", *[1 / count] * count)

    def entry(*more, layers=2, heads=2):
        model = message(
            (1, b"demo"), (2, b"0123"), (3, layers), (4, heads), (5, 10), (6, 1), (7, 2), (8, 3), (9, 0), (10, 1)
        )
        image = message((1, 640), (2, 427), (3, struct.pack("<4d", 0, 0, 640, 427)), (4, bytes([0, 0, 100, 90])))
        return b"r" + message((1, 1), (2, 1_900_000_000), (3, struct.pack("<Q", 7)), (4, model), (5, image), *more)

    rollout = (6, floats(14))
    evidence = message((1, bytes([3, 4])), (2, b"cat"), (2, b"dog"), (3, floats(18)), (4, floats(3)), (5, floats(3)))
    yield entry(rollout)
    yield entry(rollout, (7, evidence))
    yield entry(rollout, (8, floats(28)))
    yield entry((9, message((1, floats(1)), (2, bytes(range(12))))))


def varint(number):
    low, number = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(number) if number else bytes([low])


def message(*fields):
    """A protobuf message: numbers as varints, bytes with their length, owner as 64 bits."""
    parts = []
    for tag, value in fields:
        if isinstance(value, int):
            parts.append(varint(tag << 3) + varint(value))
        elif tag == 3 and len(value) == 8:
            parts.append(varint(tag << 3 | 1) + value)
        else:
            parts.append(varint(tag << 3 | 2) + varint(len(value)) + value)
    return b"".join(parts)


def without(data, path):
    """A protobuf message without the field at the end of a path of tags."""
    at, parts = 0, []

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte, at = data[at], at + 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        start = at
        key = number()
        tag, kind = key >> 3, key & 7
        if kind == 0:
            number()
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        else:
            length = number()
            body, at = data[at : at + length], at + length
            if tag == path[0]:
                if len(path) == 1:
                    continue
                body = without(body, path[1:])
                parts.append(varint(key) + varint(len(body)) + body)
                continue
        parts.append(data[start:at])
    return b"".join(parts)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
