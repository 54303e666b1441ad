#!/usr/bin/env python3
"""JPEGs of every structure that T.81 allows and some that it does not, and what Pillow makes of them.

    make.py                     the goldens beside this script
    make.py FOLDER COUNT SEED   so many more for .ci/full, of random structure

Each case has a name, a file, and Pillow's pixels (PNG) or null where Pillow refuses. `may_refuse` says that
patchlight may refuse although Pillow does not, and why. src/decode/jpeg/tests.rs reads cases.json.
"""

import io
import json
import random
import sys
from pathlib import Path

import numpy as np
import structures
from PIL import Image, ImageOps, features
from structures import FLAT_TABLES, JFIF, Component, Picture, adobe, flat_tables, segment, standard_tables

HERE = Path(__file__).parent
SOI, EOI = b"\xff\xd8", b"\xff\xd9"
assert features.version("libjpeg_turbo") == "3.1.3"


def main():
    if len(sys.argv) == 1:
        write(HERE, goldens())
    else:
        folder, count, seed = sys.argv[1:]
        Path(folder).mkdir(parents=True, exist_ok=True)
        write(Path(folder), sampled(int(count), int(seed)))


def write(folder, cases):
    listed = []
    for name, data, *why in cases:
        (folder / f"{name}.jpg").write_bytes(data)
        expected = f"{name}.png"
        try:
            picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        except Exception:  # whatever Pillow raises is a refusal
            expected = None
        else:
            picture.save(folder / expected, "PNG", optimize=True)
        listed.append({"name": name, "file": f"{name}.jpg", "expected": expected, "may_refuse": why[0] if why else None})
    lines = ",\n".join(json.dumps(case) for case in listed)
    (folder / "cases.json").write_text(f"[\n{lines}\n]\n")
    print(len(listed), "cases,", sum(case["expected"] is None for case in listed), "refused by Pillow")


# ---- pictures ---------------------------------------------------------------------------------


def plane(seed):
    """Smooth, with an edge: another one for each component."""

    def draw(width, height):
        y, x = np.mgrid[0:height, 0:width]
        x, y = (x + 0.5) / width, (y + 0.5) / height
        rng = random.Random(seed)
        a, b, c, d = (rng.uniform(1, 7) for _ in range(4))
        wave = 128 + 60 * np.sin(a * x + b * y) + 35 * np.cos(c * x - d * y)
        return np.clip(wave + 45 * (x * a / 7 + y > 0.9), 4, 251)

    return draw


def quantizers(step):
    y, x = np.mgrid[0:8, 0:8]
    return [int(value) for value in (1 + step * (x + y + 1)).reshape(64).clip(1, 255)]


def picture(width, height, factors, ids=None, seed=0, steps=(2, 3)):
    ids = ids or range(1, len(factors) + 1)
    components = [
        Component(plane(seed + index), both, identifier, quantizer=min(index, 1), table=min(index, 1))
        for index, (both, identifier) in enumerate(zip(factors, ids))
    ]
    return Picture(width, height, components, [quantizers(step) for step in steps])


def sequential(p, scans=None, head=JFIF, marker=0xC0, restart=0, tables=None, tail=b"", between=b"", dri=None):
    scans = scans or [range(len(p.components))]
    dri = restart if dri is None else dri
    out = SOI + head + p.quantizers() + p.frame(marker)
    out += standard_tables() if tables is None else tables
    if dri:
        out += segment(0xDD, dri.to_bytes(2, "big"))
    for number, scan in enumerate(scans):
        out += (between if number else b"") + p.scan(scan, restart=restart)
    return out + tail + EOI


# Whole, and without its last refinements or bands.
def script(count, interleaved=True, low=1):
    dc = [range(count)] if interleaved else [[index] for index in range(count)]
    steps = [(part, (0, 0), (0, low)) for part in dc]
    for index in range(count):
        steps += [([index], (1, 5), (0, low)), ([index], (6, 63), (0, low))]
    for bit in range(low, 0, -1):
        steps += [(part, (0, 0), (bit, bit - 1)) for part in dc]
        steps += [([index], (1, 63), (bit, bit - 1)) for index in range(count)]
    return steps


def progressive(p, steps, head=JFIF, restart=0, runs=True, tail=b""):
    out = SOI + head + p.quantizers() + p.frame(0xC2) + flat_tables()
    if restart:
        out += segment(0xDD, restart.to_bytes(2, "big"))
    for part, band, bits in steps:
        out += p.scan(part, band, bits, True, restart, FLAT_TABLES, runs)
    return out + tail + EOI


YCC = {
    "444": [(1, 1), (1, 1), (1, 1)],
    "422": [(2, 1), (1, 1), (1, 1)],
    "420": [(2, 2), (1, 1), (1, 1)],
    "440": [(1, 2), (1, 1), (1, 1)],
    "411": [(4, 1), (1, 1), (1, 1)],
    "410": [(4, 2), (1, 1), (1, 1)],
    "tall-4": [(1, 4), (1, 1), (1, 1)],
    "factor-3": [(3, 1), (1, 1), (1, 1)],
    "factor-3-down": [(1, 3), (1, 1), (1, 1)],
    "factor-2-of-2": [(2, 2), (2, 2), (2, 2)],
    "chroma-finer": [(1, 1), (2, 2), (2, 2)],
    "chroma-finer-down": [(1, 1), (1, 2), (1, 2)],
    "mixed": [(2, 2), (2, 1), (1, 2)],
    "unlike": [(2, 2), (1, 1), (2, 1)],
    "half-of-4": [(4, 2), (2, 1), (2, 1)],
}
SMOOTHED = "libjpeg smooths a progression that lacks scans"


def goldens():
    width, height = 45, 35
    for name, factors in YCC.items():
        p = picture(width, height, factors)
        yield f"{name}", sequential(p)
        yield f"{name}-three-scans", sequential(p, [[0], [1], [2]])
    p = picture(width, height, YCC["420"])
    yield "420-luma-then-chroma", sequential(p, [[0], [1, 2]])
    yield "420-scans-reversed", sequential(p, [[2], [1], [0]])
    yield "420-scan-in-another-order", sequential(p, [[1, 0, 2]])
    yield "420-luma-twice", sequential(p, [[0], [0], [1, 2]])
    yield "420-without-the-last-scan", sequential(p, [[0], [1]])
    yield "420-second-whole-scan", sequential(p, [[0, 1, 2], [0, 1, 2]])
    yield "420-restarts", sequential(p, restart=2)
    yield "420-three-scans-restarts", sequential(p, [[0], [1], [2]], restart=3)
    yield "420-restarts-not-announced", sequential(p, restart=2, dri=0)
    yield "420-tables-between", sequential(p, [[0], [1], [2]], between=p.quantizers() + standard_tables())
    yield "420-extended", sequential(p, marker=0xC1)
    yield "fractional", sequential(picture(width, height, [(3, 1), (2, 1), (1, 1)]))
    yield "fractional-two-scans", sequential(picture(width, height, [(3, 2), (2, 1), (1, 1)]), [[0], [1], [2]])
    yield "mcu-too-large", sequential(picture(width, height, [(3, 3), (1, 1), (1, 1)]))
    yield "factors-3x3-three-scans", sequential(picture(width, height, [(3, 3), (1, 1), (1, 1)]), [[0], [1], [2]])
    for side in (1, 2, 3, 8, 9, 16, 17):
        yield f"420-{side}x{side}", sequential(picture(side, side, YCC["420"]))
    yield "422-5x40", sequential(picture(5, 40, YCC["422"]))
    for name, both in [("1x1", (1, 1)), ("2x2", (2, 2)), ("3x3", (3, 3)), ("4x1", (4, 1))]:
        yield f"grey-{name}", sequential(picture(width, height, [both]))
    yield "two-components", sequential(picture(width, height, [(1, 1)] * 2))

    # Whose colors.
    p = picture(24, 20, YCC["444"])
    yield "no-marker", sequential(p, head=b"")
    for transform in (0, 1, 2, 9):
        yield f"adobe-{transform}", sequential(p, head=adobe(transform))
        yield f"jfif-adobe-{transform}", sequential(p, head=JFIF + adobe(transform))
    yield "adobe-0-then-jfif", sequential(p, head=adobe(0) + JFIF)
    yield "adobe-twice", sequential(p, head=adobe(0) + adobe(1))
    yield "adobe-short", sequential(p, head=segment(0xEE, b"Adobe\0\x64"))
    yield "jfif-short", sequential(p, head=segment(0xE0, b"JFIF\0\1\1"))
    for name, ids in [("rgb", b"RGB"), ("small-rgb", b"rgb"), ("zero", (0, 1, 2)), ("same", (1, 1, 1)), ("high", (7, 200, 3))]:
        q = picture(24, 20, YCC["444"], ids)
        yield f"ids-{name}", sequential(q, head=b"")
        yield f"ids-{name}-jfif", sequential(q)
    yield "ids-rgb-420", sequential(picture(24, 20, YCC["420"], b"RGB"), head=b"")
    four = picture(24, 20, [(1, 1)] * 4)
    subsampled = picture(40, 30, [(2, 2), (1, 1), (1, 1), (2, 2)])
    for name, head in [("none", b""), ("0", adobe(0)), ("1", adobe(1)), ("2", adobe(2)), ("jfif-2", JFIF + adobe(2))]:
        yield f"cmyk-adobe-{name}", sequential(four, head=head)
    yield "ycck-420", sequential(subsampled, head=adobe(2))
    yield "ycck-420-four-scans", sequential(subsampled, [[0], [1], [2], [3]], head=adobe(2))
    yield "cmyk-progressive", progressive(four, script(4), head=adobe(0))
    yield "ycck-420-progressive", progressive(subsampled, script(4), head=adobe(2))

    # Progressions.
    for name in ("444", "420", "440", "411", "factor-3", "chroma-finer", "mixed"):
        p = picture(width, height, YCC[name])
        yield f"{name}-progressive", progressive(p, script(3))
    p = picture(width, height, YCC["420"], steps=(1, 1))
    yield "420-progressive-deep", progressive(p, script(3, interleaved=False, low=3))
    yield "420-progressive-restarts", progressive(p, script(3), restart=2)
    yield "420-progressive-short-runs", progressive(p, script(3), runs=False)
    yield "420-progressive-first-scan", progressive(p, script(3)[:1]), SMOOTHED
    yield "420-progressive-not-refined", progressive(p, script(3)[:-1]), SMOOTHED
    yield "420-progressive-without-a-band", progressive(p, [s for s in script(3) if s[1] != (6, 63)]), SMOOTHED
    yield "420-progressive-band-of-two", progressive(p, [(range(3), (0, 0), (0, 0)), ([0, 1], (1, 63), (0, 0))])
    yield "420-progressive-skips-a-bit", progressive(p, [(range(3), (0, 0), (0, 2)), (range(3), (0, 0), (2, 0))])
    yield "grey-progressive", progressive(picture(width, height, [(2, 2)]), script(1))

    # Segments that are missing, short, doubled or surplus.
    p = picture(width, height, YCC["422"])
    whole = sequential(p)
    dnl = segment(0xDC, height.to_bytes(2, "big"))
    yield "dnl-repeats", sequential(p, tail=dnl)
    yield "dnl-in-place-of-the-height", whole.replace(p.frame(), p.frame(height=0)).replace(EOI, dnl + EOI)
    yield "avi1-without-tables", sequential(p, head=segment(0xE0, b"AVI1" + bytes(10)), tables=b"")
    yield "without-tables", sequential(p, tables=b"")
    yield "without-chroma-tables", sequential(p, tables=standard_tables([0]))
    yield "without-quantizers", whole.replace(p.quantizers(), b"")
    yield "progressive-without-tables", progressive(p, script(3)).replace(flat_tables(), b"")
    yield "wide-quantizers", whole.replace(p.quantizers(), p.quantizers(wide=True))
    yield "two-frames", whole.replace(p.frame(), p.frame() * 2)
    yield "two-starts", SOI + whole
    yield "tables-twice", whole.replace(standard_tables(), standard_tables() * 2)
    yield "fill-bytes", whole.replace(b"\xff\xda", b"\xff\xff\xff\xda")
    yield "stray-bytes", whole.replace(b"\xff\xda", b"stray\xff\xda")
    yield "marker-without-meaning", whole.replace(b"\xff\xda", segment(0x42, b"?") + b"\xff\xda")
    yield "comment-at-the-end", sequential(p, tail=segment(0xFE, b"the end"))
    yield "restart-at-the-end", sequential(p, tail=b"\xff\xd3")
    yield "dri-short", whole.replace(b"\xff\xda", segment(0xDD, b"\0") + b"\xff\xda")
    yield "arithmetic", whole.replace(b"\xff\xc0", b"\xff\xc9"), "arithmetic coding is not supported"

    # Damaged data.
    p = picture(width, height, YCC["420"])
    whole = sequential(p, restart=2)
    three = sequential(p, [[0], [1], [2]])
    steps = progressive(p, script(3), restart=2)
    yield "cut-and-closed", whole[: len(whole) * 3 // 4] + EOI
    yield "three-scans-cut-and-closed", three[: len(three) * 3 // 4] + EOI
    closed = progressive(p, script(3))
    yield "progressive-cut-and-closed", closed[: len(closed) // 2] + EOI, SMOOTHED
    yield "cut", whole[: len(whole) * 3 // 4]
    yield "no-end", whole[:-2]
    yield "restart-missing", whole.replace(b"\xff\xd2", b"")
    yield "restart-doubled", whole.replace(b"\xff\xd2", b"\xff\xd2\xff\xd2")
    yield "restart-of-another-number", whole.replace(b"\xff\xd2", b"\xff\xd6")
    yield "restart-skipped", whole.replace(b"\xff\xd1", b"\xff\xd2", 1)
    yield "progressive-restart-missing", steps.replace(b"\xff\xd2", b"")


# ---- random structures ------------------------------------------------------------------------


def sampled(count, seed):
    rng = random.Random(seed)
    for number in range(count):
        data = one(rng)
        why = SMOOTHED if b"\xff\xc2" in data else None
        kind = "whole"
        if rng.random() < 0.3:
            data, kind, why = damaged(rng, data), "damaged", "what is damaged may be refused"
        yield f"{number:05}-{kind}", data, why


def one(rng):
    components = rng.choice([1, 3, 3, 3, 3, 3, 4])
    factor = lambda: (rng.choice([1, 1, 2, 2, 3, 4]), rng.choice([1, 1, 2, 2, 3, 4]))  # noqa: E731
    if rng.random() < 0.4 and components == 3:
        factors = rng.choice(list(YCC.values()))
    else:
        factors = [factor() for _ in range(components)]
    largest = rng.choice([9, 40, 80])
    width, height = rng.randint(1, largest), rng.randint(1, largest)
    ids = rng.choice([None, None, None, (0, 1, 2, 3), b"RGBA", b"rgbk", (1, 1, 2, 2), (9, 4, 200, 1)])
    steps = rng.choice([(2, 3), (1, 1), (0, 0), (9, 14)])
    p = picture(width, height, factors, list(ids)[:components] if ids else None, rng.randrange(1000), steps)
    head = rng.choice([JFIF, JFIF, b"", adobe(rng.randrange(4)), JFIF + adobe(rng.randrange(4))])
    restart = rng.choice([0, 0, 0, 1, 2, 3, 7])
    if rng.random() < 0.4:
        steps = script(components, rng.random() < 0.7, rng.randint(1, 3))
        data = progressive(p, steps, head, restart, rng.random() < 0.5)
    else:
        indices = list(range(components))
        scans = [indices]
        if rng.random() < 0.5:
            scans = [[index] for index in indices]
            if components > 2 and rng.random() < 0.5:
                scans = [[0], indices[1:]]
            rng.shuffle(scans)
        tables = rng.choice([None, None, None, None, b"", standard_tables([0])])
        data = sequential(p, scans, head, rng.choice([0xC0, 0xC1]), restart, tables)
    return data


def damaged(rng, data):
    start = data.index(b"\xff\xda") + 12
    at = rng.randrange(min(start, len(data) - 3), len(data) - 2)
    kind = rng.randrange(5)
    if kind == 0:
        return data[:at] + EOI
    if kind == 1:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + data[at + rng.randint(1, 9) :]
    if kind == 3:
        return data[:at] + bytes([0xFF, rng.randrange(0xD0, 0xD8)]) + data[at:]
    return data[:-2] + rng.choice([segment(0xFE, b"x"), segment(0xDC, b"\0\1"), b"\xff\xd0", b"\xff\xff"]) + EOI


if __name__ == "__main__":
    main()
