"""Makes the goldens in this directory: what Pillow answers for small pictures of every kind.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py

The Rust tests of `decode` and `preprocess` read what this wrote; they never run Python. Inputs are
synthetic and seeded, so a rerun with the same versions (see versions.json) changes no byte.
"""

import io
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps, features

HERE = Path(__file__).parent
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def main():
    for folder in ("resize", "pipeline", "decode", "reduced"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir()
    write_json("versions.json", {
        "pillow": PIL.__version__,
        "libjpeg_turbo": features.version("libjpeg_turbo"),
        "libwebp": features.version("webp"),
        "numpy": np.__version__,
    })
    make_resize()
    make_pipeline()
    make_normalize()
    make_decode()
    make_reduced()
    print((HERE / "versions.json").read_text())


# ---- pictures ---------------------------------------------------------------------------------


def scene(width, height, seed=0):
    """Smooth shading, edges, texture and saturated spots: like a photograph, in a few kilobytes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    shade = np.stack([
        120 + 90 * np.sin(x / 17 + y / 29),
        110 + 80 * np.cos(x / 23 - y / 13),
        130 + 70 * np.sin((x + y) / 31),
    ], axis=-1)
    disc = (x - width * 0.6) ** 2 + (y - height * 0.4) ** 2 < (min(width, height) * 0.27) ** 2
    shade[disc] = shade[disc] * 0.3 + np.array([250.0, 20.0, 60.0]) * 0.7
    stripes = (x > width * 0.1) & (x < width * 0.35) & (y > height * 0.55)
    shade[stripes & ((x.astype(int) // 2) % 2 == 0)] = 255
    shade[stripes & ((x.astype(int) // 2) % 2 == 1)] = 0
    shade += rng.normal(0, 5, shade.shape)
    return Image.fromarray(np.clip(shade, 0, 255).round().astype(np.uint8))


def noise(width, height, seed=1):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def checkers(width, height):
    y, x = np.mgrid[0:height, 0:width]
    board = ((x + y) % 2 * 255).astype(np.uint8)
    return Image.fromarray(np.stack([board, 255 - board, board], axis=-1))


# ---- resampling -------------------------------------------------------------------------------

SOURCES = {
    "scene": scene(120, 90),
    "noise": noise(61, 47),
    "checkers": checkers(50, 50),
    "row": noise(97, 1, 2),
    "column": noise(1, 97, 3),
    "pixel": noise(1, 1, 4),
    "two": noise(2, 2, 5),
    "tall": noise(3, 401, 6),
    "tall-even": noise(2, 200, 7),
    "wide": noise(401, 3, 8),
}

TARGETS = {
    "scene": [(48, 48), (33, 25), (120, 31), (37, 90), (120, 90), (150, 130)],
    "noise": [(24, 24), (60, 46), (7, 5), (1, 1), (80, 60)],
    "checkers": [(24, 24), (49, 49), (25, 25), (17, 40), (64, 64)],
    "row": [(16, 16), (97, 5), (200, 1)],
    "column": [(16, 16), (5, 97), (1, 200)],
    "pixel": [(9, 7)],
    "two": [(224, 224), (3, 3)],
    "tall": [(16, 16), (3, 100), (8, 500)],
    "tall-even": [(16, 16)],
    "wide": [(16, 16), (100, 3)],
}


def make_resize():
    cases = []
    for name, picture in SOURCES.items():
        save_png(picture, f"resize/{name}.png")
        for width, height in TARGETS[name]:
            for filter_name, resample in FILTERS.items():
                if name == "two" and width > 100 and filter_name == "lanczos":
                    continue  # bilinear and bicubic say enough at this size
                expected = f"resize/{name}-{width}x{height}-{filter_name}.png"
                save_png(picture.resize((width, height), resample), expected)
                cases.append({
                    "input": f"resize/{name}.png",
                    "filter": filter_name,
                    "width": width,
                    "height": height,
                    "expected": expected,
                })
    write_json("resize.json", cases)


# ---- whole pipelines --------------------------------------------------------------------------


def shortest_edge(picture, size, resample):
    """torchvision.transforms.functional.resize with one number; timm and transformers agree."""
    width, height = picture.size
    short, long = min(width, height), max(width, height)
    new_long = int(size * long / short)
    new = (size, new_long) if width <= height else (new_long, size)
    return picture.resize(new, resample)


def crop_half_even(picture, height, width):
    """torchvision.transforms.functional.center_crop, padding included."""
    w, h = picture.size
    if width > w or height > h:
        left = (width - w) // 2 if width > w else 0
        top = (height - h) // 2 if height > h else 0
        canvas = Image.new("RGB", (max(w, width), max(h, height)))
        canvas.paste(picture, (left, top))
        picture = canvas
        w, h = picture.size
    top = int(round((h - height) / 2.0))
    left = int(round((w - width) / 2.0))
    return picture.crop((left, top, left + width, top + height))


def crop_floor(picture, height, width):
    """transformers.image_transforms.center_crop, padding included."""
    w, h = picture.size
    left, top = (w - width) // 2, (h - height) // 2
    return picture.crop((left, top, left + width, top + height))


def make_pipeline():
    cases = []
    crops = {"half-even": crop_half_even, "floor": crop_floor}
    shapes = [(120, 90), (90, 120), (64, 64), (33, 100), (131, 40), (250, 2), (2, 250)]
    for width, height in shapes:
        source = f"pipeline/{width}x{height}.png"
        picture = scene(width, height, seed=width)
        save_png(picture, source)
        plans = [({"mode": "squash", "height": 24, "width": 30}, None)]
        for rounding in crops:
            for size, (crop_h, crop_w) in [(32, (32, 32)), (37, (28, 24)), (36, (33, 31)), (20, (27, 24))]:
                plans.append((
                    {"mode": "shortest-edge", "size": size},
                    {"height": crop_h, "width": crop_w, "rounding": rounding},
                ))
        for index, (resize, crop) in enumerate(plans):
            filter_name = ["bilinear", "bicubic"][index % 2]
            resample = FILTERS[filter_name]
            if resize["mode"] == "squash":
                out = picture.resize((resize["width"], resize["height"]), resample)
            else:
                out = shortest_edge(picture, resize["size"], resample)
            resized = out.size
            if crop:
                out = crops[crop["rounding"]](out, crop["height"], crop["width"])
            expected = f"pipeline/{width}x{height}-{index}.png"
            save_png(out, expected)
            cases.append({
                "input": source,
                "preprocess": {
                    "resize": resize,
                    "filter": filter_name,
                    **({"crop": crop} if crop else {}),
                    "normalize": {"scale": 1 / 255, "mean": [0, 0, 0], "std": [1, 1, 1]},
                },
                "resized": list(resized),
                "expected": expected,
            })
    write_json("pipeline.json", cases)


# ---- normalisation ----------------------------------------------------------------------------


def make_normalize():
    """transformers' order: f64 product, rounded to f32, then subtract and divide in f32."""
    cases = []
    for mean, std in [
        ([0.5] * 3, [0.5] * 3),
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
        ([0.0] * 3, [1.0] * 3),
    ]:
        scaled = (np.arange(256, dtype=np.uint8).astype(np.float64) * (1 / 255)).astype(np.float32)
        m, s = np.array(mean, dtype=np.float32), np.array(std, dtype=np.float32)
        table = (scaled[:, None] - m) / s
        assert table.dtype == np.float32
        # torchvision's ToTensor divides in f32 instead; both must give the same table.
        divided = np.arange(256, dtype=np.float32) / np.float32(255)
        cases.append({
            "mean": mean,
            "std": std,
            "bits": table.T.copy().view(np.uint32).tolist(),
            "same_as_division": bool(np.array_equal(divided, scaled)),
        })
    write_json("normalize.json", cases)


# ---- decoding ---------------------------------------------------------------------------------


def make_decode():
    cases, verdicts = [], []

    def add(name, data, lossy=False, check=True):
        (HERE / "decode" / name).write_bytes(data)
        reference = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        expected = f"decode/{name}.expected.png"
        if check:
            save_png(reference, expected)
        cases.append({
            "file": f"decode/{name}", "lossy": lossy,
            "width": reference.width, "height": reference.height,
            "expected": expected if check else None,
        })

    def verdict(name, data):
        (HERE / "decode" / name).write_bytes(data)
        try:
            Image.open(io.BytesIO(data)).convert("RGB")
            accepted = True
        except Exception:  # whatever Pillow raises is a refusal
            accepted = False
        verdicts.append({"file": f"decode/{name}", "accepted": accepted})

    picture = scene(83, 61)
    gray = picture.convert("L")
    for name, sampling in [("444", "4:4:4"), ("422", "4:2:2"), ("420", "4:2:0"), ("411", "4:1:1")]:
        add(f"{name}.jpg", save(picture, "JPEG", subsampling=sampling, quality=90), lossy=True)
        add(f"{name}-progressive.jpg",
            save(picture, "JPEG", subsampling=sampling, quality=90, progressive=True), lossy=True)
    # 4:4:0 is 4:2:2 on its side; Pillow does not write it, so the sampling factors and the
    # components' order of blocks are made here from a flat-chroma 4:2:2 file (see `to_440`).
    add("440.jpg", to_440(scene(64, 64)), lossy=True)
    add("gray.jpg", save(gray, "JPEG", quality=90), lossy=True)
    add("gray-progressive.jpg", save(gray, "JPEG", quality=90, progressive=True), lossy=True)
    add("rgb.jpg", save(picture, "JPEG", quality=90, keep_rgb=True), lossy=True)
    add("restarts.jpg", save(picture, "JPEG", quality=90, restart_marker_blocks=3), lossy=True)
    cmyk = cmyk_scene(60, 44)
    cmyk_jpeg = save(cmyk, "JPEG", quality=95)
    add("cmyk.jpg", cmyk_jpeg, lossy=True)
    add("cmyk-no-adobe.jpg", without_segment(cmyk_jpeg, 0xEE), lossy=True)
    # The same samples declared as YCCK: what they show is odd, what the decoder does is not.
    add("ycck.jpg", with_adobe_transform(cmyk_jpeg, 2), lossy=True)
    add("quality-30.jpg", save(scene(160, 120, 9), "JPEG", quality=30), lossy=True)
    add("one-pixel.jpg", save(picture.crop((0, 0, 1, 1)), "JPEG"), lossy=True)
    small = scene(24, 16, 11)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        add(f"orientation-{orientation}.jpg", save(small, "JPEG", quality=95, exif=exif), lossy=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    add("orientation-6.png", save(small, "PNG", exif=exif))
    add("orientation-6-late.png", move_exif_after_data(save(small, "PNG", exif=exif)))
    add("orientation-6.webp", save(small, "WEBP", lossless=True, exif=exif))
    add("orientation-6-little-endian.jpg",
        save(small, "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"),
        lossy=True)
    long_exif = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\4\0\0\0\1\0\0\0\6\0\0\0\0"
    add("orientation-6-long.jpg", save(small, "JPEG", quality=95, exif=long_exif), lossy=True)
    exif[0x0112] = 6
    tiff = exif.tobytes()[6:]
    profile = f"\nexif\n{len(tiff) + 6:8}\n" + (b"Exif\0\0" + tiff).hex() + "\n"
    profile = b"Raw profile type exif\0", profile.encode()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    itxt = b"XML:com.adobe.xmp\0"
    for name, part in [
        ("text", (b"tEXt", b"".join(profile))),
        ("compressed-text", (b"zTXt", profile[0] + b"\0" + zlib.compress(profile[1]))),
        ("prefixed", (b"eXIf", b"Exif\0\0" + tiff)),
        ("xmp", (b"iTXt", itxt + b"\0\0\0\0" + xmp)),
        ("compressed-xmp", (b"iTXt", itxt + b"\1\0\0\0" + zlib.compress(xmp))),
    ]:
        add(f"orientation-6-{name}.png", with_chunk(save(small, "PNG"), part))
    add("orientation-6-xmp.jpg", save(small, "JPEG", quality=95, xmp=xmp), lossy=True)
    add("orientation-6-xmp.webp", save(small, "WEBP", lossless=True, xmp=xmp))
    both = Image.Exif()
    both[0x0112] = 1
    add("orientation-1-beside-xmp.jpg", save(small, "JPEG", quality=95, exif=both, xmp=xmp), lossy=True)
    exif[0x0112] = 99
    add("orientation-invalid.jpg", save(small, "JPEG", quality=95, exif=exif), lossy=True)

    rng = np.random.default_rng(12)
    width, height = 29, 17
    for bits in (1, 2, 4, 8, 16):
        samples = rng.integers(0, 1 << bits, (height, width, 1))
        add(f"gray-{bits}.png", png(width, height, bits, 0, samples), check=bits < 16)
    ramp = np.arange(256).reshape(16, 16, 1) * 257 + 77
    add("gray-16-ramp.png", png(16, 16, 16, 0, np.minimum(ramp, 65535)), check=False)
    for bits in (1, 2, 4, 8):
        colours = rng.integers(0, 256, (1 << bits, 3), dtype=np.uint8)
        samples = rng.integers(0, 1 << bits, (height, width, 1))
        plte = (b"PLTE", colours.tobytes())
        add(f"palette-{bits}.png", png(width, height, bits, 3, samples, [plte]))
        alpha = rng.integers(0, 256, 1 << bits, dtype=np.uint8)
        add(f"palette-{bits}-trns.png",
            png(width, height, bits, 3, samples, [plte, (b"tRNS", alpha.tobytes())]))
    rgb8 = rng.integers(0, 256, (height, width, 3))
    add("rgb-8.png", png(width, height, 8, 2, rgb8))
    add("rgb-8-trns.png", png(width, height, 8, 2, rgb8,
        [(b"tRNS", struct.pack(">HHH", *map(int, rgb8[3, 4])))]))
    add("rgb-16.png", png(width, height, 16, 2, rng.integers(0, 65536, (height, width, 3))))
    gamma = (b"gAMA", struct.pack(">I", 20000))
    add("profile.png", with_chunk(save(scene(24, 16, 11), "PNG", icc_profile=b"is not looked at"), gamma))
    add("profile.jpg", save(scene(24, 16, 11), "JPEG", quality=90, icc_profile=b"is not looked at"), lossy=True)
    add("gray-alpha-8.png", png(width, height, 8, 4, rng.integers(0, 256, (height, width, 2))))
    add("gray-alpha-16.png", png(width, height, 16, 4, rng.integers(0, 65536, (height, width, 2))))
    add("rgba-8.png", png(width, height, 8, 6, rng.integers(0, 256, (height, width, 4))))
    add("rgba-16.png", png(width, height, 16, 6, rng.integers(0, 65536, (height, width, 4))))
    add("interlaced.png", png(width, height, 8, 2, rgb8, interlace=True))
    add("interlaced-gray-2.png",
        png(width, height, 2, 0, rng.integers(0, 4, (height, width, 1)), interlace=True))
    frames = [scene(20, 14, s) for s in (1, 2)]
    add("animated.png", save(frames[0], "PNG", save_all=True, append_images=frames[1:]))

    exif_6 = Image.Exif()
    exif_6[0x0112] = 6
    rgba = picture.convert("RGBA")
    rgba.putalpha(Image.fromarray((np.mgrid[0:61, 0:83][1] * 3).astype(np.uint8)))
    add("lossy.webp", save(picture, "WEBP", quality=85), lossy=True)
    add("lossless.webp", save(picture.crop((0, 0, 41, 33)), "WEBP", lossless=True))
    add("lossy-alpha.webp", save(rgba, "WEBP", quality=85), lossy=True)
    add("lossless-alpha.webp", save(rgba.crop((0, 0, 41, 33)), "WEBP", lossless=True, exact=True))
    turned = save(small, "WEBP", lossless=True, exif=exif_6)
    add("exif-not-announced.webp", with_flags(turned, 0))
    plain = save(picture.crop((0, 0, 41, 33)), "WEBP", quality=85)
    for name, flag in [("icc", 0x20), ("alpha", 0x10), ("exif", 0x08), ("xmp", 0x04)]:
        add(f"{name}-announced-only.webp", extended(plain, 41, 33, flag), lossy=True)
    add("all-announced-only-lossless.webp", extended(save(small, "WEBP", lossless=True), 24, 16, 0x3C))
    add("animated.webp",
        save(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))

    colours = rng.integers(0, 256, (16, 3), dtype=np.uint8)
    indices = rng.integers(0, 16, (12, 15), dtype=np.uint8)
    add("plain.gif", gif(15, 12, colours, (0, 0, 15, 12), indices))
    add("transparent.gif", gif(15, 12, colours, (0, 0, 15, 12), indices, transparent=5))
    add("small-frame.gif", gif(23, 20, colours, (4, 3, 15, 12), indices))
    add("small-frame-transparent.gif", gif(23, 20, colours, (4, 3, 15, 12), indices, transparent=5))
    add("background.gif", gif(23, 20, colours, (4, 3, 15, 12), indices, background=9))
    add("beyond-canvas.gif", gif(10, 9, colours, (4, 3, 15, 12), indices))
    add("local-palette.gif", gif(23, 20, colours, (4, 3, 15, 12), indices, local=colours[::-1]))
    add("short-palette.gif", gif(15, 12, colours[:4], (0, 0, 15, 12), indices))
    add("photo.gif", save(scene(40, 30, 5), "GIF", interlace=True))
    add("animated.gif", save(frames[0], "GIF", save_all=True, append_images=frames[1:]))

    jpeg = save(picture, "JPEG", quality=80)
    progressive = save(picture, "JPEG", quality=80, progressive=True)
    for name, data in [("baseline", jpeg), ("progressive", progressive)]:
        verdict(f"{name}-no-eoi.jpg", data[:-2])
        verdict(f"{name}-half-eoi.jpg", data[:-1])
        verdict(f"{name}-cut.jpg", data[: len(data) // 2])
        # A progression that lacks scans is refused: see ../jpeg.
        if name == "baseline":
            verdict(f"{name}-cut-closed.jpg", data[: len(data) // 2] + b"\xff\xd9")
        verdict(f"{name}-trailing.jpg", data + b"trailing bytes")
    thumbnail = Image.Exif()
    thumbnail[0x010E] = "x\xff\xd9y"
    with_eoi = save(picture, "JPEG", exif=thumbnail)
    verdict("exif-with-eoi-cut.jpg", with_eoi[:-40])
    verdict("header-only.jpg", jpeg[:200])
    small_png = save(small, "PNG")
    verdict("no-iend.png", small_png[:-12])
    verdict("cut.png", small_png[: len(small_png) // 2])
    verdict("trailing.png", small_png + b"trailing bytes")
    webp = save(small, "WEBP")
    verdict("cut.webp", webp[: len(webp) // 2])
    verdict("trailing.webp", webp + b"trailing bytes")
    gif_bytes = gif(15, 12, colours, (0, 0, 15, 12), indices)
    verdict("no-trailer.gif", gif_bytes[:-1])
    verdict("cut.gif", gif_bytes[:-40])
    verdict("trailing.gif", gif_bytes + b"trailing bytes")

    write_json("decode.json", {"pictures": cases, "verdicts": verdicts})


def make_reduced():
    """Large JPEGs decoded in full and resized: what decoding at a fraction of the size has to stay near."""
    cases = []
    picture = scene(473, 317, 11)
    kinds = {"444": dict(subsampling=0), "420": dict(subsampling=2), "progressive": dict(subsampling=2, progressive=True)}
    files = {name: save(picture, "JPEG", quality=90, **kind) for name, kind in kinds.items()}
    files["gray"] = save(picture.convert("L"), "JPEG", quality=90)
    for name, data in files.items():
        (HERE / f"reduced/{name}.jpg").write_bytes(data)
        full = Image.open(io.BytesIO(data)).convert("RGB")
        for side, reduction in ((48, 2), (24, 4)):
            expected = f"reduced/{name}-{side}.png"
            full.resize((side, side), Image.Resampling.BILINEAR).save(HERE / expected)
            cases.append({"file": f"reduced/{name}.jpg", "side": side, "reduction": reduction, "expected": expected})
    write_json("reduced.json", cases)


def cmyk_scene(width, height):
    rgb = np.asarray(scene(width, height, 13)).astype(int)
    black = rgb.min(axis=-1, keepdims=True) // 2
    return Image.fromarray(
        np.concatenate([255 - rgb, black], axis=-1).clip(0, 255).astype(np.uint8), mode="CMYK")


# ---- files made by hand -----------------------------------------------------------------------


def segments(jpeg):
    """(marker, start, end) of every segment before the entropy-coded data."""
    at = 2
    while True:
        marker, length = jpeg[at + 1], struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
        yield marker, at, at + 2 + length
        if marker == 0xDA:
            return
        at += 2 + length


def without_segment(jpeg, unwanted):
    for marker, start, end in segments(jpeg):
        if marker == unwanted:
            return jpeg[:start] + jpeg[end:]
    raise ValueError("no such segment")


def with_adobe_transform(jpeg, transform):
    for marker, start, end in segments(jpeg):
        if marker == 0xEE:
            return jpeg[: end - 1] + bytes([transform]) + jpeg[end:]
    raise ValueError("no Adobe segment")


def to_440(picture):
    """A 4:4:0 file: a 4:2:2 file whose luma factors 2x1 are declared as 1x2.

    With square sides of whole blocks the count of blocks is the same, so the stream stays valid;
    it shows a shuffled picture, which is as good a test.
    """
    jpeg = bytearray(save(picture, "JPEG", subsampling="4:2:2", quality=90))
    for marker, start, _ in segments(bytes(jpeg)):
        if marker == 0xC0:
            assert jpeg[start + 11] == 0x21
            jpeg[start + 11] = 0x12
    return bytes(jpeg)


def png(width, height, bits, colour, samples, chunks=(), interlace=False):
    def pack(rows):
        out = b""
        for row in rows:
            values = row.reshape(-1)
            if bits == 16:
                body = values.astype(">u2").tobytes()
            elif bits == 8:
                body = values.astype(np.uint8).tobytes()
            else:
                flat = (values[:, None] >> np.arange(bits - 1, -1, -1)) & 1
                body = np.packbits(flat.reshape(-1).astype(np.uint8)).tobytes()
            out += b"\0" + body
        return out

    data = b""
    if interlace:
        for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4),
                               (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
            part = samples[y0::dy, x0::dx]
            if part.size:
                data += pack(part)
    else:
        data = pack(samples)
    ihdr = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlace))
    parts = [(b"IHDR", ihdr), *chunks, (b"IDAT", zlib.compress(data, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, parts))


def chunk(part):
    kind, body = part
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(data, part):
    """Behind the header."""
    return data[:33] + chunk(part) + data[33:]


def extended(webp, width, height, flags):
    """A WebP of one chunk behind a canvas that announces what is not there."""
    canvas = b"VP8X" + struct.pack("<IB3x", 10, flags) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(webp) - 8 + len(canvas)) + b"WEBP" + canvas + webp[12:]


def with_flags(webp, flags):
    assert webp[12:16] == b"VP8X"
    return webp[:20] + bytes([flags]) + webp[21:]


def move_exif_after_data(data):
    at, found, rest = 8, b"", data[:8]
    while at < len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        piece = data[at : at + 12 + length]
        if piece[4:8] == b"eXIf":
            found = piece
        elif piece[4:8] == b"IEND":
            rest += found + piece
        else:
            rest += piece
        at += 12 + length
    return rest


def gif(width, height, palette, box, indices, transparent=None, background=0, local=None):
    def table(colours):
        return np.asarray(colours, dtype=np.uint8).tobytes()

    def size_bits(colours):
        return int(np.log2(len(colours))) - 1

    flags = 0x80 | size_bits(palette) if palette is not None else 0
    out = b"GIF89a" + struct.pack("<HHBBB", width, height, flags, background, 0)
    if palette is not None:
        out += table(palette)
    if transparent is not None:
        out += b"\x21\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
    x, y, w, h = box
    out += b"," + struct.pack("<HHHHB", x, y, w, h, 0x80 | size_bits(local) if local is not None else 0)
    if local is not None:
        out += table(local)
    # Uncompressed LZW: a clear code before the table can grow beyond five bits.
    bits, codes = 4, []
    for i, index in enumerate(indices.reshape(-1).tolist()):
        if i % 14 == 0:
            codes.append(1 << bits)
        codes.append(index)
    codes.append((1 << bits) + 1)
    number = 0
    for i, code in enumerate(codes):
        number |= code << ((bits + 1) * i)
    data = number.to_bytes((len(codes) * (bits + 1) + 7) // 8, "little")
    out += bytes([bits])
    for i in range(0, len(data), 255):
        block = data[i : i + 255]
        out += bytes([len(block)]) + block
    return out + b"\0;"


def save(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def save_png(picture, path):
    picture.save(HERE / path, "PNG", optimize=True)


def write_json(path, value):
    (HERE / path).write_text(json.dumps(value, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
