// The image and the map over it: two canvases of the same size, a divider for before and after,
// and a cursor that reads patches.

import { colormapSteps, regionPixels } from "./interpolate.js";
import { overlay, gradient, ticks } from "./blend.js";
import { describe, isSigned, patch } from "./format.js";

const $ = (id) => document.getElementById(id);
const viewer = $("viewer");
const frame = $("frame");
const imageCanvas = $("image");
const mapCanvas = $("map");
const cursor = $("cursor");
const compareDivider = $("compare-divider");

/** What the viewer shows. */
let shown = { source: null, image: null, map: null, layers: null, at: null };
let pending = 0;

/** Shows an image, without a map. `source` can be drawn on a canvas; null if it cannot be shown. */
export function setImage(source) {
  shown = { source, image: null, map: null, layers: null, at: null };
  viewer.classList.toggle("filled", source !== null);
  frame.hidden = !source;
  frame.ariaLabel = "Your image; no map yet";
  cursor.hidden = true;
  $("reading").hidden = true;
  if (source) {
    const [width, height] = bounded(source.naturalWidth, source.naturalHeight);
    resize(width, height);
    paintImage();
  }
  mapCanvas.getContext("2d").clearRect(0, 0, mapCanvas.width, mapCanvas.height);
}

/**
 * Lays a map over it. `map` is the JSON form, `image` the answer's; `drawn` is the server's image
 * of the map: its heat map for an overlay, which is blended here, or the chosen view as it is.
 */
export function setMap(map, image, drawn, { view, smooth }) {
  const { source } = shown;
  const { width, height } = drawn;
  const inside = regionPixels(image.region, image, width, height);
  resize(width, height);
  const imagePixels = paintImage();
  const layers = { drawn, width, height, inside, signed: isSigned(map) };
  if (view === "overlay" && source) {
    const mapSteps = colormapSteps(map, image.region, image, width, height, smooth !== "none");
    layers.blend = { ...layers, imagePixels, colors: pixels(drawn), steps: mapSteps };
  }
  shown = { source, image, map, layers, at: null };
  viewer.classList.add("filled");
  frame.hidden = false;
  cursor.hidden = true;
  frame.ariaLabel = describe(map);
  $("reading").hidden = false;
  $("reading").classList.remove("void");
  selectPatch(null);
}

/** Takes the map off, because there is none. */
export function clearMap() {
  shown = { ...shown, map: null, layers: null, at: null };
  mapCanvas.getContext("2d").clearRect(0, 0, mapCanvas.width, mapCanvas.height);
  cursor.hidden = true;
  frame.ariaLabel = "Your image, without a map";
  $("reading").classList.add("void");
}

/** Paints the map at this strength, at most once a frame. */
export function paint(alpha) {
  cancelAnimationFrame(pending);
  pending = requestAnimationFrame(() => {
    const { layers } = shown;
    if (!layers) return;
    const context = mapCanvas.getContext("2d");
    if (layers.blend) context.putImageData(overlay(layers.blend, alpha), 0, 0);
    else context.drawImage(layers.drawn, 0, 0);
    frame.dataset.painted = alpha;
  });
}

/** Shows the plain image left of a divider. */
export function setCompare(on) {
  frame.classList.toggle("comparing", on);
  compareDivider.hidden = !on;
  frame.style.setProperty("--wipe", on ? `${compareDivider.value}%` : "0%");
}

/** The legend below the image. */
export function setLegend(colormap, signed) {
  $("ramp").style.backgroundImage = gradient(colormap || (signed ? "coolwarm" : "turbo"));
  $("ticks").replaceChildren(
    ...ticks(signed).map(([place, text]) => {
      const tick = document.createElement("span");
      tick.textContent = text;
      tick.classList.toggle("end", place === 1);
      tick.style.setProperty("--place", place);
      return tick;
    }),
  );
}

export function setWorking(on) {
  $("working").hidden = !on;
  viewer.setAttribute("aria-busy", on);
  if (on) delete frame.dataset.painted;
}

function resize(width, height) {
  for (const canvas of [imageCanvas, mapCanvas]) Object.assign(canvas, { width, height });
  frame.style.setProperty("--aspect", width / height);
}

/** The bound that the server sets to its copies. */
function bounded(width, height) {
  const scale = Math.min(1, 1024 / Math.max(width, height));
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

/**
 * Draws the image upright (canvases obey EXIF orientation) and returns its pixels. Transparency is
 * dropped, as the model does not see it either.
 */
function paintImage() {
  const context = imageCanvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  if (shown.source) context.drawImage(shown.source, 0, 0, imageCanvas.width, imageCanvas.height);
  const imagePixels = context.getImageData(0, 0, imageCanvas.width, imageCanvas.height);
  for (let at = 3; at < imagePixels.data.length; at += 4) imagePixels.data[at] = 255;
  context.putImageData(imagePixels, 0, 0);
  return imagePixels.data;
}

function pixels(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
}

// -- the cursor --

function selectPatch(at) {
  const { map, image } = shown;
  shown.at = at;
  cursor.hidden = !at;
  if (!at) {
    $("readout").textContent = map ? describe(map) : "";
    return;
  }
  const [rows, cols] = map.grid;
  const { region } = image;
  const part = (value, whole) => `${(100 * value) / whole}%`;
  cursor.style.left = part(region.x + (region.width * at.col) / cols, image.width);
  cursor.style.top = part(region.y + (region.height * at.row) / rows, image.height);
  cursor.style.width = part(region.width / cols, image.width);
  cursor.style.height = part(region.height / rows, image.height);
  $("readout").textContent = patch(map, at.row, at.col);
}

function patchAt(event) {
  const box = imageCanvas.getBoundingClientRect();
  const { region, width, height } = shown.image;
  const across = (((event.clientX - box.left) / box.width) * width - region.x) / region.width;
  const down = (((event.clientY - box.top) / box.height) * height - region.y) / region.height;
  const [rows, cols] = shown.map.grid;
  const at = { row: Math.floor(down * rows), col: Math.floor(across * cols) };
  return at.row >= 0 && at.row < rows && at.col >= 0 && at.col < cols ? at : null;
}

for (const kind of ["pointermove", "pointerdown"]) {
  frame.addEventListener(kind, (event) => shown.map && selectPatch(patchAt(event)));
}
frame.addEventListener("pointerleave", () => shown.map && selectPatch(null));

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
frame.addEventListener("keydown", (event) => {
  if (!shown.map || event.target !== frame) return;
  if (event.key === "Escape") selectPatch(null);
  const step = STEPS[event.key];
  if (!step) return;
  event.preventDefault();
  const [rows, cols] = shown.map.grid;
  const from = shown.at ?? { row: Math.floor(rows / 2) - step[0], col: Math.floor(cols / 2) - step[1] };
  const within = (value, count) => Math.min(count - 1, Math.max(0, value));
  selectPatch({ row: within(from.row + step[0], rows), col: within(from.col + step[1], cols) });
});

compareDivider.addEventListener("input", () => frame.style.setProperty("--wipe", `${compareDivider.value}%`));
