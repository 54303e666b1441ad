// Connects the parts of the page: classifies an image, and shows its labels and maps.

import * as client from "./client.js";
import * as viewer from "./viewer.js";
import { markLabel, showAccount, showAnswer, showCommands, showError, showMapTime } from "./result-panel.js";
import { stepper } from "./stepper.js";
import { offerSamples } from "./samples.js";
import * as verify from "./verify.js";
import { isSigned } from "./format.js";
import { GRADIENT_STOPS } from "./colormaps.js";
import "./hero.js";

const $ = (id) => document.getElementById(id);
const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
const choose = (name, value) => {
  document.querySelector(`input[name=${name}][value=${value}]`).checked = true;
};

const LINKS = ["link-png", "link-json", "link-npy", "link-sheet"];

/** The sections that show one image's result. */
const RESULT_SECTIONS = [$("result"), $("view-controls"), $("more")];

/** The current image and the server's answer to it. */
let current = null;
/** Which label's evidence is shown. */
let label = null;
let classifying = new AbortController();
let mapping = new AbortController();

for (const name of Object.keys(GRADIENT_STOPS)) $("colormap").add(new Option(name));

const startLayer = stepper($("start-layer"), "From layer", showMap);
const layer = stepper($("steppers"), "Layer", showMap);
const head = stepper($("steppers"), "Head", showMap);

// -- images --

async function classifyFile(file, name) {
  classifying.abort();
  mapping.abort();
  classifying = new AbortController();
  const { signal } = classifying;
  showError(null);
  viewer.setWorking(true);
  // What is still shown belongs to the image before.
  setStale(true);
  viewer.setImage(await decodeImage(file));
  if (signal.aborted) return;
  const query = chosen("kind") === "head" ? { attention: "heads" } : {};
  const started = performance.now();
  try {
    const answer = await client.classify(file, query, signal).catch((error) => {
      // Older models keep no heads; the labels matter more.
      if (error.status !== 400 || !query.attention) throw error;
      delete query.attention;
      return client.classify(file, query, signal);
    });
    const roundTrip = performance.now() - started;
    current = { file, name, query, answer, roundTrip };
    label = answer.predictions[0] ?? null;
    await show();
  } catch (error) {
    if (error.name === "AbortError") return;
    viewer.setWorking(false);
    reportError(error, () => classifyFile(file, name));
    for (const part of RESULT_SECTIONS) part.hidden = true;
    $("intro").hidden = false;
  } finally {
    if (!signal.aborted) setStale(false);
  }
}

function setStale(stale) {
  for (const part of RESULT_SECTIONS) part.inert = stale;
}

/** The image as something that a canvas can draw; null if this browser cannot. */
async function decodeImage(file) {
  const image = new Image();
  const url = URL.createObjectURL(file);
  image.src = url;
  try {
    await image.decode();
    return image;
  } catch {
    return null;
  } finally {
    URL.revokeObjectURL(url);
  }
}

async function show() {
  renderAnswer();
  const { attention } = current.answer;
  $("maps").hidden = $("view-controls").hidden = !attention;
  if (attention) return showMap();
  showCommands(commands(null));
  viewer.clearMap();
  viewer.setWorking(false);
}

function renderAnswer() {
  const { answer, roundTrip } = current;
  verify.offer(answer);
  // Ids that carry their map have no room for evidence, and some models have none.
  const attributed = answer.attention?.maps.includes("class") ?? false;
  document.querySelector("input[name=kind][value=class]").disabled = !attributed;
  if (!attributed && chosen("kind") === "class") choose("kind", "rollout");
  // A network without attention that could be followed has evidence only.
  const followed = answer.attention?.maps.includes("rollout") ?? true;
  document.querySelector("input[name=kind][value=rollout]").disabled = !followed;
  if (!followed && chosen("kind") === "rollout") choose("kind", "class");
  showAnswer(answer, roundTrip, attributed ? toggleAttribution : null);
}

/** Shows the evidence for a label, or the rollout again if it was shown. */
function toggleAttribution(prediction) {
  const followed = current.answer.attention?.maps.includes("rollout") ?? true;
  const again = followed && chosen("kind") === "class" && label?.class_id === prediction.class_id;
  label = prediction;
  choose("kind", again ? "rollout" : "class");
  showMap();
}

// -- maps --

/** The query that names the chosen map. */
function mapQuery() {
  switch (chosen("kind")) {
    case "class":
      return { class: label?.class_id, contrast: $("contrast").checked ? "true" : "" };
    case "head":
      return { layer: layer.value, head: head.value };
    default:
      return { start_layer: startLayer.value || "" };
  }
}

function styleQuery() {
  return {
    view: chosen("view"),
    // Evidence has signs, and one colormap that shows them.
    colormap: chosen("kind") === "class" ? "" : $("colormap").value,
    smooth: $("patches").checked ? "none" : "",
  };
}

async function showMap() {
  mapping.abort();
  mapping = new AbortController();
  const { signal } = mapping;
  const kind = chosen("kind");
  for (const part of document.querySelectorAll("[data-kind]")) part.hidden = part.dataset.kind !== kind;
  $("colormap").disabled = kind === "class";
  markLabel(kind === "class" ? label?.class_id : null);
  $("attribution-label").textContent = label?.label ?? "this label";
  $("map-note").hidden = true;
  viewer.setWorking(true);
  try {
    if (kind === "head") await ensureHeads(signal);
    await drawMap(signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    // A step beyond the last layer or head goes back to it.
    if (error.status === 400 && [startLayer, layer, head].some((control) => control.reject())) return showMap();
    showMapError(error);
  } finally {
    if (!signal.aborted) viewer.setWorking(false);
  }
}

/** Has the image classified again with every head kept, unless it was. */
async function ensureHeads(signal) {
  if (current.query.attention === "heads") return;
  const query = { attention: "heads" };
  const started = performance.now();
  const answer = await client.classify(current.file, query, signal).catch((error) => {
    if (error.status !== 400) throw error;
    throw new client.RequestError(409, "This server keeps no single heads.", error.detail, error.code, error.requestId);
  });
  current = { ...current, query, answer, roundTrip: performance.now() - started };
  renderAnswer();
}

async function drawMap(signal) {
  const { attention, attention_note: note } = current.answer;
  if (!attention) throw new client.RequestError(409, "No map was kept.", note ?? "");
  const { url } = attention;
  const [map, styleParams] = [mapQuery(), styleQuery()];
  const drawing = { ...styleParams, view: styleParams.view === "contour" ? "contour" : "heatmap" };
  const started = performance.now();
  const [numbers, bytes] = await Promise.all([
    client.json(client.path(url, { ...map, format: "json" }), signal),
    client.blob(client.path(url, { ...map, ...drawing, format: "png" }), signal),
  ]);
  const drawn = await createImageBitmap(bytes, { colorSpaceConversion: "none" });
  if (signal.aborted) return;

  for (const control of [startLayer, layer]) control.limit(numbers.layers);
  head.limit(numbers.heads);
  for (const control of [startLayer, layer, head]) control.accept();
  viewer.setMap(numbers, current.answer.image, drawn, styleParams);
  viewer.setLegend(styleParams.colormap, isSigned(numbers));
  viewer.paint(alpha());
  showAccount(numbers);
  showMapTime(performance.now() - started);
  showLinks();
}

/** Says why there is no such map, and takes the old one off the image. */
function showMapError(error) {
  if (error.status === 401) return reportError(error, showMap);
  viewer.clearMap();
  for (const id of LINKS) $(id).hidden = true;
  showCommands(commands(null));
  const again = error.status === 404 ? " Choose the image again to have its map drawn." : "";
  $("map-note").textContent = `${error.title ?? "The map could not be drawn."} ${error.detail ?? error.message}${again}`;
  $("map-note").hidden = false;
}

function showLinks() {
  const { answer } = current;
  const strength = chosen("view") === "overlay" ? { alpha: alpha() } : {};
  const { url } = answer.attention;
  const png = client.path(url, { ...mapQuery(), ...styleQuery(), ...strength });
  const numbers = (format) => client.path(url, { ...mapQuery(), format });
  for (const id of LINKS) $(id).hidden = false;
  $("link-png").href = png;
  $("link-json").href = numbers("json");
  $("link-npy").href = numbers("npy");
  $("link-sheet").href = client.path(url, { layer: layer.value, format: "png" });
  showCommands(commands(png));
}

/** What the page did, for curl. */
function commands(map) {
  const { name, query } = current;
  return {
    base: client.base(),
    file: name,
    classify: client.path("classify", query),
    map,
    key: client.hasKey(),
  };
}

// -- controls --

const alpha = () => Number($("alpha").value) / 100;

$("alpha").addEventListener("input", () => {
  $("alpha").setAttribute("aria-valuetext", `${$("alpha").value} %`);
  viewer.paint(alpha());
});
$("alpha").addEventListener("change", () => current?.answer.attention && showLinks());
$("compare").addEventListener("change", () => viewer.setCompare($("compare").checked));
for (const control of document.querySelectorAll("input[name=view], input[name=kind], #colormap, #patches, #contrast")) {
  control.addEventListener("change", () => {
    $("alpha").disabled = chosen("view") !== "overlay";
    showMap();
  });
}

$("forget").addEventListener("click", async () => {
  try {
    await client.remove(current.answer.attention.url);
    showMapError({ title: "Forgotten.", detail: "The server no longer has this map or its image." });
  } catch (error) {
    showMapError(error);
  }
});

$("copy").addEventListener("click", async () => {
  const text = $("curl");
  getSelection().selectAllChildren(text);
  try {
    await navigator.clipboard.writeText(text.textContent);
    $("copy").textContent = "Copied";
  } catch {
    // Without https there is no clipboard for scripts, but the text is selected.
    $("copy").textContent = "Selected";
  }
  setTimeout(() => ($("copy").textContent = "Copy"), 2000);
});

// Links cannot carry a key: with one, the page fetches for them.
for (const id of LINKS) {
  $(id).addEventListener("click", async (event) => {
    if (!client.hasKey()) return;
    event.preventDefault();
    try {
      const url = URL.createObjectURL(await client.blob($(id).href));
      const link = Object.assign(document.createElement("a"), { href: url, download: $(id).dataset.name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      showMapError(error);
    }
  });
}

// -- file input --

$("viewer").addEventListener("click", () => {
  if (!$("viewer").classList.contains("filled")) $("file").click();
});

const acceptFiles = (files) => {
  const image = [...files].find((file) => file.type.startsWith("image/")) ?? files[0];
  if (image) classifyFile(image, image.name || "image.png");
};
$("file").addEventListener("change", () => {
  acceptFiles($("file").files);
  // So that the same file can be chosen again.
  $("file").value = "";
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) acceptFiles(event.clipboardData.files);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  acceptFiles(event.dataTransfer.files);
});
offerSamples(async (file) => {
  try {
    classifyFile(await client.blob(`samples/${file}`), file);
  } catch (error) {
    reportError(error, () => $("samples").querySelector(`[data-sample="${file}"]`).click());
  }
});

// -- keys --

let retry = null;

/** Shows an error; a missing key is asked for, and then what failed is tried again. */
function reportError(error, again) {
  showError(error);
  if (error.status !== 401) return;
  retry = again;
  $("key-reason").textContent = error.detail;
  $("key-dialog").showModal();
}

$("key-open").addEventListener("click", () => {
  retry = null;
  $("key-dialog").showModal();
});
$("key-cancel").addEventListener("click", () => $("key-dialog").close());
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  client.setKey($("key").value);
  $("key").value = "";
  $("key-dialog").close();
  retry?.();
});
