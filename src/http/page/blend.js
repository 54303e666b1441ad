// How a map is laid over the user's own image: the arithmetic of src/explain/ on the page's side,
// so that the strength can be dragged without asking the server for every step. The tests compare
// it with the server's own overlay.

import { GRADIENT_STOPS } from "./colormaps.js";

/** Opacity of each of the 256 steps of the colormap, in 256ths. */
export function weights(alpha, signed) {
  return Uint16Array.from({ length: 256 }, (_, step) => {
    const position = step / 255;
    const exponent = signed
      ? 3 - 2.6 * Math.sqrt(Math.abs(2 * position - 1))
      : 2 - 1.6 * position;
    return Math.round(alpha ** exponent * 256);
  });
}

/** How much of its own color the image loses below the map, in 256ths. */
export function desaturation(alpha, signed) {
  return Math.round((signed ? Math.min(1, 2 * alpha) : alpha) * 256);
}

/**
 * The overlay. `imagePixels` and `colors` are RGBA of the same size, the image and the map drawn
 * opaque by the server; `steps` are the map's steps on the colormap, one a pixel.
 */
export function overlay({ imagePixels, colors, steps, width, height, inside, signed }, alpha) {
  const out = new ImageData(width, height);
  const target = out.data;
  const weight = weights(alpha, signed);
  const fade = desaturation(alpha, signed);
  for (let y = 0; y < height; y += 1) {
    const rowInside = y >= inside.top && y < inside.bottom;
    for (let x = 0; x < width; x += 1) {
      const at = (y * width + x) * 4;
      const luma = (77 * imagePixels[at] + 150 * imagePixels[at + 1] + 29 * imagePixels[at + 2]) >> 8;
      target[at + 3] = 255;
      if (!rowInside || x < inside.left || x >= inside.right) {
        target.fill(cropMask(luma, x + y), at, at + 3);
        continue;
      }
      const opacity = weight[steps[at / 4]];
      for (let channel = at; channel < at + 3; channel += 1) {
        const faded = (imagePixels[channel] * (256 - fade) + luma * fade + 128) >> 8;
        target[channel] = (faded * (256 - opacity) + colors[channel] * opacity + 128) >> 8;
      }
    }
  }
  return out;
}

// What was cropped away is dimmed and hatched, as in the server's images.
const HATCH = [22, 40, 22];
const HATCH_PERIOD = 12;
const DIM = 90;

function cropMask(luma, diagonal) {
  return ((luma * DIM) >> 8) + (HATCH[diagonal % HATCH_PERIOD] ?? 0);
}

/** A CSS gradient of a colormap. */
export function gradient(colormap) {
  return `linear-gradient(to right, ${GRADIENT_STOPS[colormap].join(", ")})`;
}

/** The legend's ticks: `[place in 0…1, text]`. The scale is that of src/explain/scale.rs. */
export function ticks(signed) {
  if (signed) return [[0, "against"], [0.5, "neither"], [1, "for this label"]];
  const tick = (share, text) => [share / (share + 2), text];
  return [tick(0, "0"), tick(1, "fair share"), tick(3, "3 ×"), tick(8, "8 ×")];
}
