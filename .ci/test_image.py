"""Writes a small PNG, a gradient with a disc on it, to standard output: for checks that need any image."""

import struct
import sys
import zlib

SIDE = 160


def pixel(x, y):
    inside = (x - SIDE // 2) ** 2 + (y - SIDE // 2) ** 2 < (SIDE // 3) ** 2
    return (230, 60, 40) if inside else (x * 255 // SIDE, y * 255 // SIDE, 128)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


rows = (b"\0" + bytes(value for x in range(SIDE) for value in pixel(x, y)) for y in range(SIDE))
sys.stdout.buffer.write(
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b"".join(rows), 9))
    + chunk(b"IEND", b"")
)
