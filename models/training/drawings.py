"""Fetch the pictograph sets (pinned npm packages) and rasterise the drawings used here.

The sets come as `@iconify-json/<set>` packages: one `icons.json` of SVG bodies and one
`info.json` with author and licence. Nothing of them is kept in this repository; this script
rebuilds the rasters from the pinned versions:

    python drawings.py --work /tmp/patchlight-train      # writes <work>/drawings.npz
    python drawings.py --work ... --sheet sheet.png      # also a contact sheet to look at

One *artist* may publish several sets (an older and a newer one, or two styles of one drawing);
they count as one artist. The artist in `HELD_OUT_ARTIST` never takes part in training.
"""
import argparse
import io
import json
import pathlib
import subprocess

import numpy as np

# set -> (artist, package version)
SETS = {
    "noto": ("noto", "1.2.9"),
    "noto-v1": ("noto", "1.2.5"),
    "emojione": ("emojione", "1.2.3"),
    "fxemoji": ("fxemoji", "1.2.2"),
    "fluent-emoji": ("fluent", "1.2.7"),
    "fluent-emoji-flat": ("fluent", "1.2.6"),
    "twemoji": ("twemoji", "1.2.5"),
}
# Sets under a share-alike licence (openmoji, emojione-v1) are left out on purpose, so that
# neither the weights nor the samples depend on anything but permissive licences.
TRAIN_ARTISTS = ("noto", "emojione", "fxemoji", "fluent")
HELD_OUT_ARTIST = "twemoji"
SIZE = 256  # raster side in pixels

# label: (names shared by the sets, names in fxemoji, which has its own naming)
CLASSES = {
    "dog": ("dog dog-face poodle", "dog dogside poodle"),
    "cat": ("cat cat-face", "cat catside"),
    "horse": ("horse horse-face", "horse horseface"),
    "cow": ("cow cow-face", "cow cowface"),
    "pig": ("pig pig-face", "pig pigside"),
    "rabbit": ("rabbit rabbit-face", "bunny bunnyside"),
    "panda": ("panda panda-face", "pandaface"),
    "monkey": ("monkey monkey-face", "monkey monkeyface"),
    "chicken": ("chicken rooster", "chicken rooster"),
    "owl": ("owl", ""),
    "penguin": ("penguin", "penguin"),
    "elephant": ("elephant", "elephant"),
    "frog": ("frog", "frog"),
    "fish": ("fish tropical-fish", "fish tropicalfish"),
    "whale": ("whale spouting-whale", "whale spurtingwhale"),
    "octopus": ("octopus", "octopus"),
    "crab": ("crab", ""),
    "turtle": ("turtle", "turtle"),
    "snake": ("snake", "snake"),
    "snail": ("snail", "snail"),
    "butterfly": ("butterfly", ""),
    "ladybug": ("lady-beetle", "ladybeetle"),
    "bee": ("honeybee", "honeybee"),
    "spider": ("spider", "spider"),
    "rose": ("rose", "rose"),
    "sunflower": ("sunflower", "sunflower"),
    "cactus": ("cactus", "cactus"),
    "palm tree": ("palm-tree", "palmtree"),
    "mushroom": ("mushroom", "mushroom"),
    "apple": ("red-apple green-apple", "redapple greenapple"),
    "banana": ("banana", "banana"),
    "strawberry": ("strawberry", "strawberry"),
    "grapes": ("grapes", "grapes"),
    "watermelon": ("watermelon", "watermelon"),
    "pineapple": ("pineapple", "pineapple pinedecoration"),
    "cherries": ("cherries", "cherries"),
    "lemon": ("lemon", "lemon"),
    "carrot": ("carrot", ""),
    "pizza": ("pizza", "sliceofpizza"),
    "hamburger": ("hamburger", "hamburger"),
    "doughnut": ("doughnut", "doughnut"),
    "ice cream": ("soft-ice-cream ice-cream", "softicecream icecream"),
    "cake": ("birthday-cake shortcake", "birthdaycake shortcake"),
    "cup": ("hot-beverage", "hotbeverage"),
    "car": ("automobile sport-utility-vehicle oncoming-automobile", "automobile oncomingautomobile"),
    "bus": ("bus oncoming-bus", "bus oncomingbus"),
    "bicycle": ("bicycle", "bicycle"),
    "motorcycle": ("motorcycle motor-scooter", "motorcycle"),
    "steam locomotive": ("locomotive", "steamlocomotive"),
    "airplane": ("airplane small-airplane", "airplane"),
    "helicopter": ("helicopter", "helicopter"),
    "rocket": ("rocket", "rocket"),
    "sailboat": ("sailboat", "sailboat"),
    "house": ("house house-with-garden", "housebuilding housewithgarden"),
    "tent": ("tent", "tent"),
    "hourglass": ("hourglass-done hourglass-not-done", "hourglass hourglassflowingsand"),
    "alarm clock": ("alarm-clock", "alarmclock"),
    "light bulb": ("light-bulb", "lightbulb"),
    "key": ("key old-key", "key oldkey"),
    "scissors": ("scissors", "blackscissors"),
    "hammer": ("hammer", "hammer"),
    "pencil": ("pencil", "pencil"),
    "guitar": ("guitar", "guitar"),
    "trumpet": ("trumpet", "trumpet"),
    "bell": ("bell", "bell"),
    "camera": ("camera camera-with-flash", "camera camerawithflash"),
    "television": ("television", "television"),
    "umbrella": ("umbrella umbrella-with-rain-drops", "umbrella umbrellawithraindrops"),
    "crown": ("crown", "crown"),
    "glasses": ("glasses sunglasses", "glasses darksunglasses"),
    "soccer ball": ("soccer-ball", "soccerball"),
    "balloon": ("balloon", "balloon"),
}
LABELS = list(CLASSES)
# fxemoji files two drawings under names that mean something else here.
FX_SKIP = {"pinedecoration"}
# Small symbols that serve as distractors: none of them shows one of the classes.
SYMBOLS = (
    "red-heart blue-heart droplet speech-balloon thought-balloon musical-note musical-notes sparkles dizzy "
    "sweat-droplets anger-symbol hundred-points recycling-symbol cyclone heavy-check-mark check-mark cross-mark "
    "heavy-plus-sign plus minus divide question-mark red-question-mark red-exclamation-mark star glowing-star "
    "right-arrow left-arrow up-arrow down-arrow large-blue-diamond large-orange-diamond red-circle blue-circle "
    "green-circle yellow-square purple-square red-triangle-pointed-up club-suit spade-suit diamond-suit "
    "high-voltage snowflake crescent-moon cloud fire collision envelope paperclip puzzle-piece ribbon label "
    "bookmark anchor peace-symbol atom-symbol yin-yang infinity radioactive biohazard fleur-de-lis")
SYMBOLS_FX = (
    "redheart heartblue blackdroplet speechbubble musicalnote multiplemusicalnotes sparkles dizzy sweatsplash anger "
    "hundredpointssymbol cyclone heavycheckmark crossmark heavyplussign blackquestionmark star snowflake "
    "crescentmoon cloud fire collision envelope label bookmark anchor gem ticket paperclip")


def install(work):
    """npm installs the pinned packages below `work`; scripts of packages are not run."""
    npm = work / "npm"
    npm.mkdir(parents=True, exist_ok=True)
    if not (npm / "package.json").exists():
        (npm / "package.json").write_text('{"private": true}\n')
    want = [f"@iconify-json/{s}@{v}" for s, (_, v) in SETS.items()]
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", *want],
                   cwd=npm, check=True)
    return npm / "node_modules" / "@iconify-json"


def svg_of(pack, name):
    """The icon as an SVG text; follows an alias to its parent. None if the set lacks it."""
    flip = False
    while name not in pack["icons"]:
        alias = pack.get("aliases", {}).get(name)
        if alias is None:
            return None
        flip ^= bool(alias.get("hFlip"))
        name = alias["parent"]
    icon = pack["icons"][name]
    w = icon.get("width", pack.get("width", 16))
    h = icon.get("height", pack.get("height", 16))
    x, y = icon.get("left", 0), icon.get("top", 0)
    body = icon["body"]
    if flip:
        body = f'<g transform="translate({w + 2 * x} 0) scale(-1 1)">{body}</g>'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{x} {y} {w} {h}" width="{w}" height="{h}">{body}</svg>')


def raster(svg, size):
    """RGBA uint8, color premultiplied with alpha, cut to the visible part and centred in a square."""
    import resvg_py
    from PIL import Image
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size * 2))
    a = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    ys, xs = np.nonzero(a[..., 3] > 8)
    if len(ys) == 0:
        return None
    a = a[ys.min():ys.max() + 1, xs.min():xs.max() + 1].astype(np.float32)
    a[..., :3] *= a[..., 3:] / 255.0
    side = max(a.shape[:2])
    sq = np.zeros((side, side, 4), np.float32)
    y, x = (side - a.shape[0]) // 2, (side - a.shape[1]) // 2
    sq[y:y + a.shape[0], x:x + a.shape[1]] = a
    import cv2
    sq = cv2.resize(sq, (size, size), interpolation=cv2.INTER_AREA if side >= size else cv2.INTER_CUBIC)
    return np.clip(sq + 0.5, 0, 255).astype(np.uint8)


def drawings(root, size=SIZE, sets=None, only=None):
    """Yields (set, artist, class index or -1 for a symbol, name, RGBA)."""
    for s, (artist, _) in SETS.items():
        if sets and s not in sets:
            continue
        pack = json.loads((root / s / "icons.json").read_text())
        fx = s == "fxemoji"
        jobs = [(k, n) for k, (label, names) in enumerate(CLASSES.items()) for n in names[fx].split()]
        jobs += [(-1, n) for n in (SYMBOLS_FX if fx else SYMBOLS).split()]
        for k, name in jobs:
            if (fx and name in FX_SKIP) or (only and (k < 0 or LABELS[k] not in only)):
                continue
            svg = svg_of(pack, name)
            a = raster(svg, size) if svg else None
            if a is not None:
                yield s, artist, k, name, a


def sheet(d, path):
    """Contact sheet: a row per class, drawings side by side on white."""
    import cv2
    cell, rows = 40, []
    for k in list(range(len(LABELS))) + [-1]:
        idx = np.nonzero(d["cls"] == k)[0][:40]
        row = np.full((cell, cell * 28 + 120, 3), 255, np.uint8)
        cv2.putText(row, "symbols" if k < 0 else LABELS[k], (2, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0))
        for j, i in enumerate(idx[:28]):
            a = cv2.resize(d["rgba"][i], (cell - 2, cell - 2), interpolation=cv2.INTER_AREA).astype(np.float32)
            over = a[..., :3] + 255 - a[..., 3:]
            row[1:-1, 120 + j * cell + 1:120 + (j + 1) * cell - 1] = np.clip(over[..., ::-1], 0, 255)
        rows.append(row)
    half = (len(rows) + 1) // 2
    rows += [rows[-1] * 0 + 255] * (2 * half - len(rows))
    cv2.imwrite(str(path), np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], 1))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--work", type=pathlib.Path, required=True, help="folder outside the repository")
    p.add_argument("--sheet", type=pathlib.Path)
    a = p.parse_args()
    root = install(a.work)
    rows = list(drawings(root))
    out = {
        "rgba": np.stack([r[4] for r in rows]),
        "cls": np.array([r[2] for r in rows], np.int16),
        "artist": np.array([r[1] for r in rows]),
        "set": np.array([r[0] for r in rows]),
        "name": np.array([r[3] for r in rows]),
    }
    np.savez(a.work / "drawings.npz", **out)
    for artist in dict.fromkeys(v[0] for v in SETS.values()):
        m = (out["artist"] == artist) & (out["cls"] >= 0)
        lack = [l for k, l in enumerate(LABELS) if k not in out["cls"][m]]
        print(f"{artist}: {m.sum()} drawings of {len(LABELS) - len(lack)} classes, "
              f"{((out['artist'] == artist) & (out['cls'] < 0)).sum()} symbols; lacks {lack}")
    if a.sheet:
        sheet(out, a.sheet)


if __name__ == "__main__":
    main()
