"""Writes what numpy.save really writes for a few small maps.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt && venv/bin/python make.py
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def main():
    for shape in ((14, 14), (3, 5), (1, 1), (100, 2), (2, 3, 5)):
        # Sixteenths: exact in float32, so that the test can make the same numbers.
        values = (np.arange(np.prod(shape), dtype=np.float32) - 2) / 16
        np.save(HERE / f"{'x'.join(map(str, shape))}.npy", values.reshape(shape), allow_pickle=False)


if __name__ == "__main__":
    main()
