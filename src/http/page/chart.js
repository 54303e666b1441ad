// A small line chart. What it shows stands in a table beside it, so it is hidden from screen readers.

const SVG = document.querySelector("svg").namespaceURI;
const [WIDTH, HEIGHT] = [150, 96];
/** Room for the title above and the axis below. */
const [TOP, BELOW] = [18, 16];

function make(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** `lines` are pairs of a name, which chooses the color, and scores 0…1 at equal steps. */
export function chart(title, lines) {
  const svg = make("svg", { viewBox: `-1 0 ${WIDTH + 2} ${TOP + HEIGHT + BELOW}`, "aria-hidden": "true" });
  svg.append(make("text", { x: 0, y: 11, class: "title" }, title));
  for (const share of [0, 0.5, 1]) {
    svg.append(make("path", { class: "grid", d: `M0 ${TOP + share * HEIGHT}h${WIDTH}` }));
  }
  for (const [text, x, anchor] of [["no patch", 0, "start"], ["all", WIDTH, "end"]]) {
    svg.append(make("text", { x, y: TOP + HEIGHT + 12, "text-anchor": anchor }, text));
  }
  for (const [name, scores] of lines) {
    const point = (score, at) => `${((at / (scores.length - 1)) * WIDTH).toFixed(1)},${(TOP + (1 - score) * HEIGHT).toFixed(1)}`;
    svg.append(make("polyline", { class: `line line-${name}`, points: scores.map(point).join(" ") }));
  }
  return svg;
}
