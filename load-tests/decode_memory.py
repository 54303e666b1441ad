#!/usr/bin/env python3
"""What decoding an image takes, kind by kind: the estimate that --decode-memory counts, and the real peak.

    pip install pillow
    load-tests/decode_memory.py [--megapixels 20]

The estimate is what a server without enough memory says that it would need; the real peak is that of the resident
memory, above what the server has at rest. Exit status 1 if a kind takes more than estimated by a tenth and 8 MiB.
"""

import argparse
import asyncio
import io
import re
import sys
from pathlib import Path

import harness
import images
from harness import Server, ask, status_bytes

try:
    from PIL import Image
except ImportError:
    sys.exit("this needs Pillow: pip install pillow")

MIB = 2**20


def files(megapixels):
    """Images of every kind, with some detail in them; one after the other, since they are large."""
    width, height = 4000, megapixels * 250
    small = Image.effect_mandelbrot((400, 300), (-2, -1.2, 1, 1.2), 60)
    grey = small.resize((width, height), Image.Resampling.BILINEAR)
    color = Image.merge("RGB", (grey, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT), grey))
    turned = Image.Exif()
    turned[0x0112] = 6

    def made(image, kind, **options):
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    jpeg = {"quality": 75}
    yield "JPEG 4:2:0", made(color, "JPEG", **jpeg)
    yield "JPEG 4:4:4", made(color, "JPEG", subsampling=0, **jpeg)
    yield "JPEG progressive 4:2:0", made(color, "JPEG", progressive=True, **jpeg)
    yield "JPEG progressive 4:4:4", made(color, "JPEG", progressive=True, subsampling=0, **jpeg)
    yield "JPEG grey", made(grey, "JPEG", **jpeg)
    yield "JPEG grey progressive", made(grey, "JPEG", progressive=True, **jpeg)
    yield "JPEG CMYK", made(color.convert("CMYK"), "JPEG", **jpeg)
    yield "JPEG turned", made(color, "JPEG", exif=turned, **jpeg)
    yield "PNG grey 1 bit", made(grey.convert("1"), "PNG", compress_level=1)
    yield "PNG grey 8 bits", made(grey, "PNG", compress_level=1)
    yield "PNG grey 16 bits", made(grey.convert("I;16"), "PNG", compress_level=1)
    yield "PNG palette", made(grey.convert("P"), "PNG", compress_level=1)
    yield "PNG RGB", made(color, "PNG", compress_level=1)
    yield "PNG RGBA", made(color.convert("RGBA"), "PNG", compress_level=1)
    yield "PNG RGB turned", made(color, "PNG", compress_level=1, exif=turned)
    yield "GIF", made(grey.convert("P"), "GIF")
    yield "WebP lossy", made(color, "WEBP", quality=75, method=0)
    yield "WebP lossless", made(color, "WEBP", lossless=True, method=0, quality=0)


async def estimate(port, file):
    status, _, body = await ask(port, "POST", "/classify?attention=none", file)
    said = re.search(rb"decoding it takes (\d+) MiB", body)
    if not said:
        raise SystemExit(f"a server without memory answered {status}: {body[:200]}")
    return int(said[1]) * MIB


async def peak(flags, file, program):
    """Of a new server, which has no freed memory at hand, above what it has at rest; the upload, which another
    budget counts, taken off."""
    with Server(*flags, program=program) as server:
        small = images.read(images.samples())[0]
        for _ in range(3):
            await ask(server.port, "POST", "/classify?attention=none", small)
        # The kernel begins to look for the peak again.
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")
        before = status_bytes(server.pid, "VmRSS")
        status, _, body = await ask(server.port, "POST", "/classify?attention=none", file)
        if status != 200:
            raise SystemExit(f"an image got {status}: {body[:200]}")
        return status_bytes(server.pid, "VmHWM") - before - len(file)


async def run(args):
    common = ["--request-timeout", "120s", "--max-body", "100MiB", "--log", "error"]
    rows, failures = {}, []
    rich = [*common, "--decode-memory", "2GiB"]
    with Server(*common, "--decode-memory", "8MiB", program=args.program) as poor:
        pixels = 4000 * args.megapixels * 250
        for kind, file in files(args.megapixels):
            harness.progress(kind)
            expected = await estimate(poor.port, file)
            found = {"in full": await peak([*rich, "--jpeg-scaling", "off"], file, args.program)}
            if kind.startswith("JPEG"):
                found["reduced"] = await peak(rich, file, args.program)
            for how, real in found.items():
                rows[f"{kind}, {how}"] = {
                    "bytes": len(file),
                    "estimated_per_pixel": round(expected / pixels, 1),
                    "real_per_pixel": round(real / pixels, 1),
                }
                if real > 1.1 * expected + 8 * MIB:
                    failures.append(f"{kind}, {how}: {real / MIB:.0f} MiB, estimated {expected / MIB:.0f}")
    return harness.report("decode_memory", {"megapixels": args.megapixels, "kinds": rows}, failures)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=int, default=20)
    parser.add_argument("--program")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
