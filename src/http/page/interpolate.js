// A map's numbers as steps of the colormap, pixel by pixel: src/explain/scale.rs and
// render/interpolate.rs on the page's side. The overlay's strength depends on them.

import { isSigned, sum } from "./format.js";

/** The place of each patch on the colormap, 0…1. */
function positions(map) {
  if (isSigned(map)) {
    const largest = map.values.reduce((maximum, value) => Math.max(maximum, Math.abs(value)), 0);
    return map.values.map((value) => (largest > 0 ? 0.5 + (0.5 * value) / largest : 0.5));
  }
  const fair = sum(map.values) / map.values.length;
  return map.values.map((value) => (fair > 0 ? Math.max(0, value) / (Math.max(0, value) + 2 * fair) : 0));
}

/** The pixels whose centres lie in a region given in pixels of an image of another size. */
export function regionPixels(region, image, width, height) {
  const across = width / image.width;
  const down = height / image.height;
  const edge = (at, maximum) => Math.min(maximum, Math.max(0, Math.ceil(at - 0.5)));
  return {
    left: edge(region.x * across, width),
    right: edge((region.x + region.width) * across, width),
    top: edge(region.y * down, height),
    bottom: edge((region.y + region.height) * down, height),
  };
}

/** A step of 0…255 for each pixel of the canvas; 0 outside the region. */
export function colormapSteps(map, region, image, width, height, smooth) {
  const [rows, cols] = map.grid;
  const patchPositions = positions(map);
  const inside = regionPixels(region, image, width, height);
  const [across, down] = [width / image.width, height / image.height];
  const columns = taps(inside.left, inside.right, region.x * across, region.width * across, cols, smooth);
  const lines = taps(inside.top, inside.bottom, region.y * down, region.height * down, rows, smooth);
  const result = new Uint8Array(width * height);
  lines.forEach((row, y) => {
    const line = Array.from({ length: cols }, (_, col) =>
      between(patchPositions[row.low * cols + col], patchPositions[row.high * cols + col], row.part),
    );
    const start = (inside.top + y) * width + inside.left;
    columns.forEach((col, x) => {
      result[start + x] = between(line[col.low], line[col.high], col.part) * 255 + 0.5;
    });
  });
  return result;
}

const between = (low, high, part) => low + part * (high - low);

/** Between which patches the pixels of an axis lie. Patch `i` has its centre at `i` + ½. */
function taps(from, to, start, length, patches, smooth) {
  const last = patches - 1;
  return Array.from({ length: Math.max(0, to - from) }, (_, index) => {
    const at = ((from + index + 0.5 - start) / length) * patches;
    if (!smooth) {
      const patch = Math.min(last, Math.floor(at));
      return { low: patch, high: patch, part: 0 };
    }
    const fromCentre = Math.min(last, Math.max(0, at - 0.5));
    const low = Math.floor(fromCentre);
    return { low, high: Math.min(last, low + 1), part: fromCentre - low };
  });
}
