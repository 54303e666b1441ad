// Numbers and maps in words, for eyes and for screen readers. Nothing here touches the page.

export const percent = (share) =>
  share >= 0.0995 ? `${(share * 100).toFixed(0)} %` : `${(share * 100).toFixed(1)} %`;

export const milliseconds = (time) => `${time >= 100 ? time.toFixed(0) : time.toFixed(1)} ms`;

/** Seconds, in the largest unit that fits. */
export function lasting(seconds) {
  if (seconds >= 7200) return `${Math.round(seconds / 3600)} h`;
  return seconds >= 120 ? `${Math.round(seconds / 60)} min` : `${seconds} s`;
}

/** With a real minus sign, and a plus. */
export function signed(value, digits = 2) {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return (value < 0 ? "−" : "+") + text;
}

/** One patch, as the cursor reads it. */
export function patch(map, row, col) {
  const value = map.values[row * map.grid[1] + col];
  const place = `Row ${row + 1}, column ${col + 1}`;
  if (isSigned(map)) {
    const direction = value < 0 ? "against" : "for";
    return `${place}: ${signed(value, 3)} logits, ${direction} ${map.label ?? "the label"}`;
  }
  const fair = sum(map.values) / map.values.length;
  const share = fair > 0 ? value / fair : 0;
  return `${place}: ${percent(value)} of the attention, ${share.toFixed(1)} × its fair share`;
}

/** How a map did against a random order of patches, by how much better both areas are. */
export function gain({ deletion, insertion }) {
  if (deletion > 0 && insertion > 0) return "truer than a random order, both ways";
  if (deletion > 0) return "truer than a random order when patches go, not when they come back";
  if (insertion > 0) return "truer than a random order when patches come back, not when they go";
  return "no truer than a random order for this picture";
}

/** Where a map is strong, in one sentence: the picture's text alternative. */
export function describe(map) {
  const strongest = ninths(map).reduce((best, ninth) => (ninth.sum > best.sum ? ninth : best));
  if (isSigned(map)) {
    const all = sum(map.values);
    return `Evidence for ${map.label ?? "the label"}: ${signed(all)} logits over all patches, most from the ${strongest.name}.`;
  }
  const all = sum(map.values);
  const part = all > 0 ? strongest.sum / all : 0;
  const what = map.method === "rollout" ? "Rollout" : "Attention";
  return `${what}: strongest in the ${strongest.name}, with ${percent(part)} of the patches’ weight.`;
}

/** Whether values are for and against instead of shares. */
export const isSigned = (map) => map.method === "attribution";

export const sum = (values) => values.reduce((total, value) => total + value, 0);

function ninths(map) {
  const [rows, cols] = map.grid;
  const names = ["upper left", "top", "upper right", "left", "middle", "right", "lower left", "bottom", "lower right"];
  const parts = names.map((name) => ({ name, sum: 0 }));
  map.values.forEach((value, index) => {
    const down = Math.floor((Math.floor(index / cols) * 3) / rows);
    const across = Math.floor(((index % cols) * 3) / cols);
    parts[down * 3 + across].sum += value;
  });
  return parts;
}

/** The two commands that do what the page did. */
export function curl({ base, file, classify, map, key }) {
  const auth = key ? ` -H "Authorization: Bearer $PATCHLIGHT_KEY"` : "";
  const lines = [`curl${auth} -F image=@${quoted(file)} ${quoted(base + classify)}`];
  if (map) lines.push(`curl${auth} -o map.png ${quoted(base + map)}`);
  return lines.join("\n");
}

/** For a POSIX shell. */
function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
