"""Writes JPEGs of any structure: sampling factors, scans and their order, tables, markers.

An encoder for tests: slow, small pictures, and nothing is chosen by it. What it writes follows ITU-T T.81
as long as its caller does.
"""

import struct

import numpy as np

ZIGZAG = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
]  # fmt: skip

# Annex K.3: differences and coefficients, luminance and chrominance.
STANDARD = {
    (0, 0): ([0, 1, 5, 1, 1, 1, 1, 1, 1], list(range(12))),
    (0, 1): ([0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1], list(range(12))),
    (1, 0): (
        [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125],
        bytes.fromhex(
            "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435"
            "363738393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798"
            "999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4"
            "f5f6f7f8f9fa"
        ),
    ),
    (1, 1): (
        [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119],
        bytes.fromhex(
            "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a"
            "35363738393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a9293949596"
            "9798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4"
            "f5f6f7f8f9fa"
        ),
    ),
}
# Every symbol, for progressive scans: 254 codes of eight bits, two of nine.
FLAT = ([0, 0, 0, 0, 0, 0, 0, 254, 2], list(range(256)))
FLAT_DC = ([0, 0, 0, 0, 16], list(range(16)))
# No code may be all ones, so 15 of 16 would fit five bits easily.


def codes(table):
    counts, symbols = table
    code, place, found = 0, 0, {}
    for length, count in enumerate(counts, 1):
        for _ in range(count):
            found[symbols[place]] = (code, length)
            code += 1
            place += 1
        code <<= 1
    return found


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def huffman_segment(kind, number, table):
    counts, symbols = table
    counts = list(counts) + [0] * (16 - len(counts))
    return segment(0xC4, bytes([kind << 4 | number, *counts]) + bytes(symbols))


class Bits:
    def __init__(self):
        self.bits = []

    def put(self, value, length):
        self.bits.extend((value >> shift) & 1 for shift in range(length - 1, -1, -1))

    def data(self):
        bits = self.bits + [1] * (-len(self.bits) % 8)
        return np.packbits(np.array(bits, dtype=np.uint8)).tobytes().replace(b"\xff", b"\xff\x00")


def size_and_bits(value):
    size = abs(value).bit_length()
    return size, value if value >= 0 else value + (1 << size) - 1


def dct_matrix():
    k, n = np.mgrid[0:8, 0:8]
    matrix = np.cos((2 * n + 1) * k * np.pi / 16) / 2
    matrix[0] /= np.sqrt(2)
    return matrix


class Component:
    def __init__(self, plane, factors, identifier, quantizer=0, table=0):
        self.plane, (self.h, self.v) = plane, factors
        self.id, self.quantizer, self.table = identifier, quantizer, table


class Picture:
    """Components of one frame, quantized. `tables` are lists of 64 quantizers in the order of the block."""

    def __init__(self, width, height, components, tables):
        self.width, self.height, self.components, self.tables = width, height, components, tables
        self.max_h = max(c.h for c in components)
        self.max_v = max(c.v for c in components)
        self.mcus = -(-width // (8 * self.max_h)), -(-height // (8 * self.max_v))
        matrix = dct_matrix()
        for c in components:
            c.wide = -(-width * c.h // (8 * self.max_h))
            c.high = -(-height * c.v // (8 * self.max_v))
            rows, columns = 8 * self.mcus[1] * c.v, 8 * self.mcus[0] * c.h
            plane = c.plane(-(-width * c.h // self.max_h), -(-height * c.v // self.max_v))
            plane = np.pad(plane, ((0, rows - plane.shape[0]), (0, columns - plane.shape[1])), mode="edge")
            blocks = plane.reshape(rows // 8, 8, columns // 8, 8).swapaxes(1, 2) - 128.0
            blocks = matrix @ blocks @ matrix.T
            table = np.array(tables[c.quantizer]).reshape(8, 8)
            c.blocks = np.rint(blocks / table).astype(int).reshape(rows // 8, columns // 8, 64)[:, :, ZIGZAG]

    def frame(self, marker=0xC0, height=None):
        body = struct.pack(">BHHB", 8, self.height if height is None else height, self.width, len(self.components))
        for c in self.components:
            body += bytes([c.id, c.h << 4 | c.v, c.quantizer])
        return segment(marker, body)

    def quantizers(self, wide=False):
        out = b""
        for number, table in enumerate(self.tables):
            values = [table[place] for place in ZIGZAG]
            body = struct.pack(">64H", *values) if wide else bytes(values)
            out += segment(0xDB, bytes([number | (0x10 if wide else 0)]) + body)
        return out

    def scan(self, indices, band=(0, 63), bits=(0, 0), progressive=False, restart=0, tables=STANDARD, runs=True):
        """A scan's header and its data. `bits` are (high, low) of a progression."""
        parts = [self.components[index] for index in indices]
        header = bytes([len(parts)])
        for c in parts:
            header += bytes([c.id, c.table << 4 | c.table])
        header = segment(0xDA, header + bytes([*band, bits[0] << 4 | bits[1]]))
        coder = Coder(band, bits, progressive, tables, runs)
        for number, mcu in enumerate(self.mcu_blocks(parts)):
            if restart and number and number % restart == 0:
                coder.restart()
            for c, block in mcu:
                coder.block(c, block)
        return header + coder.finish()

    def mcu_blocks(self, parts):
        if len(parts) == 1:
            (c,) = parts
            for y in range(c.high):
                for x in range(c.wide):
                    yield [(c, c.blocks[y, x])]
            return
        for y in range(self.mcus[1]):
            for x in range(self.mcus[0]):
                yield [(c, c.blocks[y * c.v + i, x * c.h + j]) for c in parts for i in range(c.v) for j in range(c.h)]


class Coder:
    def __init__(self, band, bits, progressive, tables, runs):
        (self.first, self.last), (self.high, self.low) = band, bits
        self.progressive, self.runs = progressive, runs
        self.codes = {key: codes(table) for key, table in tables.items()}
        self.pieces, self.restarts = [], 0
        self.reset()

    def reset(self):
        self.out, self.previous, self.run, self.pending, self.ac = Bits(), {}, 0, [], None

    def restart(self):
        self.flush_run()
        self.pieces += [self.out.data(), bytes([0xFF, 0xD0 + self.restarts % 8])]
        self.restarts += 1
        self.reset()

    def finish(self):
        self.flush_run()
        return b"".join([*self.pieces, self.out.data()])

    def symbol(self, kind, table, value):
        self.out.put(*self.codes[kind, table][value])

    def block(self, c, block):
        if not self.progressive:
            self.difference(c, int(block[0]))
            self.coefficients(c, [int(value) for value in block], 1, 63)
        elif self.first == 0:
            if self.high:
                self.out.put(int(block[0]) >> self.low & 1, 1)
            else:
                self.difference(c, int(block[0]) >> self.low)
        else:
            self.ac = c.table
            # Towards zero.
            values = [int(np.sign(v)) * (abs(int(v)) >> self.low) for v in block]
            if self.high:
                self.refine(c, values)
            else:
                self.coefficients(c, values, self.first, self.last)

    def difference(self, c, value):
        size, bits = size_and_bits(value - self.previous.get(id(c), 0))
        self.previous[id(c)] = value
        self.symbol(0, c.table, size)
        self.out.put(bits, size)

    def coefficients(self, c, values, first, last):
        run = 0
        for k in range(first, last + 1):
            if values[k] == 0:
                run += 1
                continue
            self.flush_run()
            while run > 15:
                self.symbol(1, c.table, 0xF0)
                run -= 16
            size, bits = size_and_bits(values[k])
            self.symbol(1, c.table, run << 4 | size)
            self.out.put(bits, size)
            run = 0
        if run:
            self.end_of_band(c, [])

    def end_of_band(self, c, corrections):
        if not self.progressive:
            self.symbol(1, c.table, 0)
            return
        self.run += 1
        self.pending += corrections
        if not self.runs or self.run == 0x7FFF or len(self.pending) > 900:
            self.flush_run()

    def flush_run(self):
        if self.run:
            size = self.run.bit_length() - 1
            self.symbol(1, self.ac, size << 4)
            self.out.put(self.run - (1 << size), size)
            for bit in self.pending:
                self.out.put(bit, 1)
        self.run, self.pending = 0, []

    def refine(self, c, values):
        new = [k for k in range(self.first, self.last + 1) if abs(values[k]) == 1]
        end = new[-1] if new else -1
        run, corrections = 0, []
        for k in range(self.first, self.last + 1):
            size = abs(values[k])
            if size == 0:
                run += 1
                continue
            while run > 15 and k <= end:
                self.flush_run()
                self.symbol(1, c.table, 0xF0)
                for bit in corrections:
                    self.out.put(bit, 1)
                run, corrections = run - 16, []
            if size > 1:
                corrections.append(size & 1)
                continue
            self.flush_run()
            self.symbol(1, c.table, run << 4 | 1)
            self.out.put(int(values[k] > 0), 1)
            for bit in corrections:
                self.out.put(bit, 1)
            run, corrections = 0, []
        if run or corrections:
            self.end_of_band(c, corrections)


JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def adobe(transform):
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


def standard_tables(numbers=(0, 1)):
    return b"".join(huffman_segment(kind, n, STANDARD[kind, n]) for n in numbers for kind in (0, 1))


def flat_tables(numbers=(0, 1)):
    return b"".join(huffman_segment(kind, n, (FLAT_DC, FLAT)[kind]) for n in numbers for kind in (0, 1))


FLAT_TABLES = {(kind, n): (FLAT_DC, FLAT)[kind] for kind in (0, 1) for n in range(4)}
