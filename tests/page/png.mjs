// A PNG encoder that takes its time: Chromium's is made to be quick, and its files are half as large
// again as they have to be.

import { crc32, deflateSync } from "node:zlib";

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

/** RGB pixels, row-major, as a PNG. Each row takes the filter whose differences are smallest. */
export function encode(width, height, rgb) {
  const stride = width * 3;
  const rows = [];
  let above = Buffer.alloc(stride);
  for (let y = 0; y < height; y += 1) {
    const row = rgb.subarray(y * stride, (y + 1) * stride);
    rows.push(smallest(row, above));
    above = row;
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  // Eight bits a channel, RGB.
  header.set([8, 2, 0, 0, 0], 8);
  const data = deflateSync(Buffer.concat(rows), { level: 9, memLevel: 9 });
  return Buffer.concat([SIGNATURE, chunk("IHDR", header), chunk("IDAT", data), chunk("IEND", Buffer.alloc(0))]);
}

/** The predictors of the PNG specification, by the number of their filter. */
const PREDICTORS = [
  () => 0,
  (left) => left,
  (_, up) => up,
  (left, up) => (left + up) >> 1,
  (left, up, corner) => {
    const guess = left + up - corner;
    const [toLeft, toUp, toCorner] = [left, up, corner].map((byte) => Math.abs(guess - byte));
    if (toLeft <= toUp && toLeft <= toCorner) return left;
    return toUp <= toCorner ? up : corner;
  },
];

function smallest(row, above) {
  let best = { cost: Infinity };
  for (const [filter, predict] of PREDICTORS.entries()) {
    const line = Buffer.alloc(row.length + 1);
    line[0] = filter;
    let cost = 0;
    for (let at = 0; at < row.length; at += 1) {
      const [left, corner] = at < 3 ? [0, 0] : [row[at - 3], above[at - 3]];
      const difference = (row[at] - predict(left, above[at], corner)) & 255;
      line[at + 1] = difference;
      cost += Math.min(difference, 256 - difference);
    }
    if (cost < best.cost) best = { cost, line };
  }
  return best.line;
}

function chunk(name, data) {
  const body = Buffer.concat([Buffer.from(name), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}
