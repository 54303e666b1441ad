"""Writes src/explain/colormap/tables.rs and the golden that its test compares it with.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py

Sources: viridis and magma are by Nathaniel Smith and Stefan van der Walt (CC0); turbo is by Anton
Mikhailov, Google (Apache-2.0); coolwarm is by Kenneth Moreland ("Diverging Color Maps for
Scientific Visualization", 2009), with the values that matplotlib ships; grey is r = g = b.
"""

import hashlib
import json
from pathlib import Path

import matplotlib
import numpy as np

HERE = Path(__file__).resolve().parent
TABLES = HERE.parents[2] / "src/explain/colormap/tables.rs"
NAMES = {"viridis": "viridis", "magma": "magma", "turbo": "turbo", "grey": "gray", "coolwarm": "coolwarm"}
PER_LINE = 8


def main():
    rust = [
        "//! Color tables, `0xRRGGBB` from low to high.",
        "//!",
        f"//! Written by `tests/goldens/colormaps/make.py` with matplotlib {matplotlib.__version__}, which names",
        "//! their authors and licences; not edited by hand.",
    ]
    golden = {}
    for name, source in NAMES.items():
        table = matplotlib.colormaps[source](np.arange(256), bytes=True)[:, :3]
        rust += ["", "#[rustfmt::skip]", f"pub(super) static {name.upper()}: [u32; 256] = ["]
        words = [f"0x{r:02x}{g:02x}{b:02x}," for r, g, b in table]
        rust += ["    " + " ".join(words[i : i + PER_LINE]) for i in range(0, 256, PER_LINE)]
        rust += ["];"]
        golden[name] = {
            "sha256": hashlib.sha256(table.tobytes()).hexdigest(),
            "samples": {str(i): table[i].tolist() for i in (0, 1, 64, 127, 128, 192, 254, 255)},
        }
    TABLES.write_text("\n".join(rust) + "\n")
    (HERE / "colormaps.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
