"""Makes the goldens in this directory: what Pillow answers for BMP and TIFF files of every kind.

    python -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py

The Rust tests of `decode` read what this wrote. Inputs are synthetic and seeded, so a rerun with the
same versions (see versions.json) changes no byte.
"""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps

HERE = Path(__file__).parent
FILES = HERE / "files"
WIDTH, HEIGHT = 29, 17
rng = np.random.default_rng(3)
cases, verdicts = [], []


def upright(data):
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def add(name, data, check=True):
    (FILES / name).write_bytes(data)
    picture = upright(data)
    case = {"file": f"files/{name}", "lossy": False, "width": picture.width, "height": picture.height, "expected": None}
    if check:
        case["expected"] = f"files/{name}.png"
        picture.save(HERE / case["expected"])
    cases.append(case)


def verdict(name, data):
    (FILES / name).write_bytes(data)
    try:
        upright(data)
        accepted = True
    except Exception:
        accepted = False
    verdicts.append({"file": f"files/{name}", "accepted": accepted})


def save(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def scene(width=WIDTH, height=HEIGHT):
    y, x = np.mgrid[0:height, 0:width]
    shade = np.stack([x * 8, y * 13, (x + y) * 5], axis=-1) + rng.integers(0, 20, (height, width, 3))
    return Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8))


def packed(samples, bits):
    """Rows of samples as bytes, each row from a new byte."""
    flat = samples.reshape(samples.shape[0], -1)
    spread = (flat[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(spread.reshape(flat.shape[0], -1).astype(np.uint8), axis=1)


# ---- BMP: the header's documentation of Microsoft, "Bitmap Storage" ------------------------------


def bmp(bits, rows, palette=b"", compression=0, masks=b"", header=40, top_down=False, height=HEIGHT):
    if header == 12:
        info = struct.pack("<IHHHH", 12, WIDTH, height, 1, bits)
    else:
        sign = -1 if top_down else 1
        info = struct.pack("<IiiHHIIiiII", header, WIDTH, sign * height, 1, bits, compression, len(rows), 2835, 2835, 0, 0)
        if header > 40:
            info += (masks.ljust(16, b"\0") + b"BGRs").ljust(header - 40, b"\0")
        else:
            info += masks
    start = 14 + len(info) + len(palette)
    return struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start) + info + palette + rows


def padded(rows):
    rows = np.asarray(rows)
    return b"".join(bytes(row) + b"\0" * (-len(row) % 4) for row in rows)


def make_bmp():
    add("rgb.bmp", save(scene(), "BMP"))
    add("gray.bmp", save(scene().convert("L"), "BMP"))
    for bits in (1, 4, 8):
        colours = rng.integers(0, 256, (1 << bits, 4), dtype=np.uint8)
        samples = rng.integers(0, 1 << bits, (HEIGHT, WIDTH))
        rows = padded(packed(samples, bits))
        add(f"palette-{bits}.bmp", bmp(bits, rows, colours.tobytes()))
        add(f"palette-{bits}-os2.bmp", bmp(bits, rows, colours[:, :3].tobytes(), header=12))
    any24 = rng.integers(0, 256, (HEIGHT, WIDTH * 3), dtype=np.uint8)
    add("top-down.bmp", bmp(24, padded(any24), top_down=True))
    add("rgb-os2.bmp", bmp(24, padded(any24), header=12))
    any16 = rng.integers(0, 256, (HEIGHT, WIDTH * 2), dtype=np.uint8)
    add("rgb-555.bmp", bmp(16, padded(any16)))
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    add("rgb-565.bmp", bmp(16, padded(any16), compression=3, masks=masks))
    any32 = rng.integers(0, 256, (HEIGHT, WIDTH * 4), dtype=np.uint8)
    add("rgb-32.bmp", bmp(32, padded(any32)))
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    add("rgba-v4.bmp", bmp(32, padded(any32), compression=3, masks=masks, header=108))
    add("rgba-v5.bmp", bmp(32, padded(any32), compression=3, masks=masks, header=124))
    masks = struct.pack("<III", 0xFF000000, 0xFF0000, 0xFF00)
    add("rgbx-v3.bmp", bmp(32, padded(any32), compression=3, masks=masks))

    colours = rng.integers(0, 256, (256, 4), dtype=np.uint8).tobytes()
    rows = b""
    for y in range(HEIGHT):
        # A run, then absolute pixels padded to 16 bits, then the end of the line.
        rows += bytes([12, (y * 9) % 256, 0, 17]) + rng.integers(0, 256, 17, dtype=np.uint8).tobytes() + b"\0\0\0"
    add("rle-8.bmp", bmp(8, rows + b"\0\1", colours, compression=1))
    rows = b"".join(bytes([WIDTH, (y * 17) % 256, 0, 0]) for y in range(HEIGHT))
    add("rle-4.bmp", bmp(4, rows + b"\0\1", colours[:64], compression=2))

    whole = bmp(24, padded(any24))
    verdict("cut.bmp", whole[: len(whole) // 2])
    verdict("trailing.bmp", whole + b"trailing bytes")
    verdict("header-only.bmp", whole[:54])


# ---- TIFF 6.0 -----------------------------------------------------------------------------------


def tiff(tags, chunks, big_endian=False):
    """One directory; `chunks` are strips or tiles, whose offsets are filled in."""
    order = ">" if big_endian else "<"
    tags = dict(tags)
    where = 324 if 322 in tags else 273
    tags[where] = (4, [0] * len(chunks))
    tags[where + 1 if where == 324 else 279] = (4, [len(chunk) for chunk in chunks])
    sizes = {1: 1, 3: 2, 4: 4}
    directory = 2 + 12 * len(tags) + 4
    extra_at = 8 + directory
    data_at = extra_at + sum(
        (sizes[kind] * len(values) + 1) // 2 * 2 for kind, values in tags.values() if sizes[kind] * len(values) > 4
    )
    offsets, at = [], data_at
    for chunk in chunks:
        offsets.append(at)
        at += len(chunk)
    tags[where] = (4, offsets)
    entries, extra = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        body = struct.pack(order + {1: "B", 3: "H", 4: "I"}[kind] * len(values), *values)
        if len(body) > 4:
            place = struct.pack(order + "I", extra_at + len(extra))
            extra += body + b"\0" * (len(body) % 2)
        else:
            place = body.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + place
    head = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(order + "I", 8)
    return head + struct.pack(order + "H", len(tags)) + entries + b"\0\0\0\0" + extra + b"".join(chunks)


def tags(bits, photometric, samples=1, compression=1, **more):
    named = {"planar": 284, "predictor": 317, "rows": 278, "colours": 320, "extra": 338, "format": 339,
             "orientation": 274, "tile_width": 322, "tile_height": 323}
    found = {
        256: (4, [WIDTH]), 257: (4, [HEIGHT]), 258: (3, [bits] * samples), 259: (3, [compression]),
        262: (3, [photometric]), 277: (3, [samples]), 278: (4, [HEIGHT]),
    }
    for name, value in more.items():
        kind = 4 if name in ("rows", "tile_width", "tile_height") else 3
        found[named[name]] = (kind, list(value) if isinstance(value, (list, tuple)) else [value])
    if "tile_width" in more:
        del found[278]
    return found


def make_tiff():
    picture = scene()
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"):
        add(f"rgb-{compression}.tiff", save(picture, "TIFF", compression=compression))
        add(f"gray-{compression}.tiff", save(picture.convert("L"), "TIFF", compression=compression))
    bilevel = picture.convert("1")
    for compression in ("raw", "group4", "tiff_lzw", "packbits"):
        add(f"bilevel-{compression}.tiff", save(bilevel, "TIFF", compression=compression))
    add("palette.tiff", save(picture.quantize(50), "TIFF", compression="tiff_lzw"))
    add("cmyk.tiff", save(picture.convert("CMYK"), "TIFF", compression="tiff_lzw"))
    rgba = picture.convert("RGBA")
    rgba.putalpha(Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)))
    add("rgba.tiff", save(rgba, "TIFF", compression="tiff_lzw"))
    add("gray-alpha.tiff", save(rgba.convert("LA"), "TIFF"))
    add("big.tiff", save(picture, "TIFF", big_tiff=True))
    add("pages.tiff", save(picture, "TIFF", save_all=True, append_images=[scene(11, 7)]))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        add(f"orientation-{orientation}.tiff", save(picture, "TIFF", exif=exif))

    # Pillow's 16 bits of grey become white; ours keep the high byte, as of PNG.
    deep = rng.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
    add("gray-16.tiff", tiff(tags(16, 1), [deep.astype("<u2").tobytes()]), check=False)
    for bits in (1, 2, 4, 8):
        samples = rng.integers(0, 1 << bits, (HEIGHT, WIDTH))
        rows = packed(samples, bits).tobytes()
        add(f"white-is-zero-{bits}.tiff", tiff(tags(bits, 0), [rows]))
        add(f"black-is-zero-{bits}.tiff", tiff(tags(bits, 1), [rows]))
        if bits > 1:
            colours = rng.integers(0, 65536, 3 << bits).tolist()
            add(f"palette-{bits}.tiff", tiff(tags(bits, 3, colours=colours), [rows]))
    rgb = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    add("strips.tiff", tiff(tags(8, 2, 3, rows=5), [rgb[y : y + 5].tobytes() for y in range(0, HEIGHT, 5)]))
    add("planar.tiff", tiff(tags(8, 2, 3, planar=2), [rgb[:, :, plane].tobytes() for plane in range(3)]))
    add("big-endian.tiff", tiff(tags(8, 2, 3), [rgb.tobytes()], big_endian=True))
    rgb16 = rng.integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    add("rgb-16.tiff", tiff(tags(16, 2, 3), [rgb16.astype("<u2").tobytes()]))
    add("rgb-16-big-endian.tiff", tiff(tags(16, 2, 3), [rgb16.astype(">u2").tobytes()], big_endian=True))
    rgbx = rng.integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    add("rgb-unspecified.tiff", tiff(tags(8, 2, 4, extra=0), [rgbx.tobytes()]))
    add("rgba-unassociated.tiff", tiff(tags(8, 2, 4, extra=2), [rgbx.tobytes()]))
    premultiplied = rgbx.copy()
    premultiplied[:, :, :3] = rgbx[:, :, :3].astype(int) * rgbx[:, :, 3:] // 255
    add("rgba-associated.tiff", tiff(tags(8, 2, 4, extra=1), [premultiplied.tobytes()]))
    difference = rgb.astype(int)
    difference[:, 1:] -= rgb[:, :-1].astype(int)
    rows = zlib.compress((difference % 256).astype(np.uint8).tobytes())
    add("predictor.tiff", tiff(tags(8, 2, 3, compression=8, predictor=2), [rows]))
    tiles = []
    for y in (0, 16):
        for x in (0, 16):
            tile = np.zeros((16, 16, 3), dtype=np.uint8)
            part = rgb[y : y + 16, x : x + 16]
            tile[: part.shape[0], : part.shape[1]] = part
            tiles.append(tile.tobytes())
    add("tiles.tiff", tiff(tags(8, 2, 3, tile_width=16, tile_height=16), tiles))

    whole = save(picture, "TIFF", compression="raw")
    verdict("trailing.tiff", whole + b"trailing bytes")
    strips = tiff(tags(8, 2, 3), [rgb.tobytes()])
    verdict("cut.tiff", strips[: len(strips) // 2])
    verdict("header-only.tiff", strips[:8])


FILES.mkdir(exist_ok=True)
for old in FILES.iterdir():
    old.unlink()
make_bmp()
make_tiff()
(HERE / "versions.json").write_text(json.dumps({"pillow": PIL.__version__, "numpy": np.__version__}) + "\n")
(HERE / "decode.json").write_text(json.dumps({"pictures": cases, "verdicts": verdicts}, indent=1) + "\n")
