// Wires the page: a picture comes in, its labels and maps go up.

import * as client from "./client.js";
import * as stage from "./stage.js";
import { markLabel, showAccount, showAnswer, showCommands, showError, showMapTime } from "./telling.js";
import { stepper } from "./stepper.js";
import { offerSamples } from "./samples.js";
import * as verify from "./verify.js";
import { isSigned } from "./words.js";
import "./lamp.js";

const $ = (id) => document.getElementById(id);
const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;
const choose = (name, value) => {
  document.querySelector(`input[name=${name}][value=${value}]`).checked = true;
};

const LINKS = ["link-png", "link-json", "link-npy", "link-sheet"];

/** What is about one picture. */
const ABOUT = [$("result"), $("view-controls"), $("more")];

/** The picture at hand and the server's answer to it. */
let current = null;
/** Which label's evidence is shown. */
let label = null;
let classifying = new AbortController();
let mapping = new AbortController();

const startLayer = stepper($("start-layer"), "From layer", showMap);
const layer = stepper($("walk"), "Layer", showMap);
const head = stepper($("walk"), "Head", showMap);

// -- pictures --

async function take(file, name) {
  classifying.abort();
  mapping.abort();
  classifying = new AbortController();
  const { signal } = classifying;
  showError(null);
  stage.setWorking(true);
  // What is still shown belongs to the picture before.
  setStale(true);
  stage.setPicture(await readable(file));
  if (signal.aborted) return;
  const query = chosen("kind") === "head" ? { attention: "heads" } : {};
  const started = performance.now();
  try {
    const answer = await client.classify(file, query, signal).catch((why) => {
      // Older models keep no heads; the labels matter more.
      if (why.status !== 400 || !query.attention) throw why;
      delete query.attention;
      return client.classify(file, query, signal);
    });
    const roundTrip = performance.now() - started;
    current = { file, name, query, answer, roundTrip };
    label = answer.predictions[0] ?? null;
    await show();
  } catch (why) {
    if (why.name === "AbortError") return;
    stage.setWorking(false);
    fail(why, () => take(file, name));
    for (const part of ABOUT) part.hidden = true;
    $("intro").hidden = false;
  } finally {
    if (!signal.aborted) setStale(false);
  }
}

function setStale(stale) {
  for (const part of ABOUT) part.inert = stale;
}

/** The picture as something that a canvas can draw; null if this browser cannot. */
async function readable(file) {
  const picture = new Image();
  const url = URL.createObjectURL(file);
  picture.src = url;
  try {
    await picture.decode();
    return picture;
  } catch {
    return null;
  } finally {
    URL.revokeObjectURL(url);
  }
}

async function show() {
  tell();
  const { attention } = current.answer;
  $("maps").hidden = $("view-controls").hidden = !attention;
  if (attention) return showMap();
  showCommands(commands(null));
  stage.clearMap();
  stage.setWorking(false);
}

function tell() {
  const { answer, roundTrip } = current;
  verify.offer(answer);
  // Ids that carry their map have no room for evidence, and some models have none.
  const explained = answer.attention?.maps.includes("class") ?? false;
  document.querySelector("input[name=kind][value=class]").disabled = !explained;
  if (!explained && chosen("kind") === "class") choose("kind", "rollout");
  showAnswer(answer, roundTrip, explained ? pick : null);
}

/** Shows the evidence for a label, or the rollout again if it was shown. */
function pick(prediction) {
  const again = chosen("kind") === "class" && label?.class_id === prediction.class_id;
  label = prediction;
  choose("kind", again ? "rollout" : "class");
  showMap();
}

// -- maps --

/** The query that names the chosen map. */
function wanted() {
  switch (chosen("kind")) {
    case "class":
      return { class: label?.class_id, contrast: $("contrast").checked ? "true" : "" };
    case "head":
      return { layer: layer.value, head: head.value };
    default:
      return { start_layer: startLayer.value || "" };
  }
}

function style() {
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
  $("evidence-label").textContent = label?.label ?? "this label";
  $("map-note").hidden = true;
  stage.setWorking(true);
  try {
    if (kind === "head") await keepHeads(signal);
    await drawMap(signal);
  } catch (why) {
    if (why.name === "AbortError") return;
    // A step beyond the last layer or head goes back to it.
    if (why.status === 400 && [startLayer, layer, head].some((walk) => walk.refuse())) return showMap();
    noMap(why);
  } finally {
    if (!signal.aborted) stage.setWorking(false);
  }
}

/** Has the picture classified again with every head kept, unless it was. */
async function keepHeads(signal) {
  if (current.query.attention === "heads") return;
  const query = { attention: "heads" };
  const started = performance.now();
  const answer = await client.classify(current.file, query, signal).catch((why) => {
    if (why.status !== 400) throw why;
    throw new client.Failure(409, "This server keeps no single heads.", why.detail, why.code, why.requestId);
  });
  current = { ...current, query, answer, roundTrip: performance.now() - started };
  tell();
}

async function drawMap(signal) {
  const { attention, attention_note: note } = current.answer;
  if (!attention) throw new client.Failure(409, "No map was kept.", note ?? "");
  const { url } = attention;
  const [map, looks] = [wanted(), style()];
  const drawing = { ...looks, view: looks.view === "contour" ? "contour" : "heatmap" };
  const started = performance.now();
  const [numbers, bytes] = await Promise.all([
    client.json(client.path(url, { ...map, format: "json" }), signal),
    client.blob(client.path(url, { ...map, ...drawing, format: "png" }), signal),
  ]);
  const drawn = await createImageBitmap(bytes, { colorSpaceConversion: "none" });
  if (signal.aborted) return;

  for (const walk of [startLayer, layer]) walk.limit(numbers.layers);
  head.limit(numbers.heads);
  for (const walk of [startLayer, layer, head]) walk.settle();
  stage.setMap(numbers, current.answer.image, drawn, looks);
  stage.setLegend(looks.colormap, isSigned(numbers));
  stage.paint(alpha());
  showAccount(numbers);
  showMapTime(performance.now() - started);
  showLinks();
}

/** Says why there is no such map, and takes the old one off the picture. */
function noMap(why) {
  if (why.status === 401) return fail(why, showMap);
  stage.clearMap();
  for (const id of LINKS) $(id).hidden = true;
  showCommands(commands(null));
  const again = why.status === 404 ? " Choose the picture again to have it drawn anew." : "";
  $("map-note").textContent = `${why.title ?? "The map could not be drawn."} ${why.detail ?? why.message}${again}`;
  $("map-note").hidden = false;
}

function showLinks() {
  const { answer } = current;
  const strength = chosen("view") === "overlay" ? { alpha: alpha() } : {};
  const { url } = answer.attention;
  const png = client.path(url, { ...wanted(), ...style(), ...strength });
  const numbers = (format) => client.path(url, { ...wanted(), format });
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
  stage.paint(alpha());
});
$("alpha").addEventListener("change", () => current?.answer.attention && showLinks());
$("compare").addEventListener("change", () => stage.setCompare($("compare").checked));
for (const control of document.querySelectorAll("input[name=view], input[name=kind], #colormap, #patches, #contrast")) {
  control.addEventListener("change", () => {
    $("alpha").disabled = chosen("view") !== "overlay";
    showMap();
  });
}

$("forget").addEventListener("click", async () => {
  try {
    await client.forget(current.answer.attention.url);
    noMap({ title: "Forgotten.", detail: "The server no longer has this map or its picture." });
  } catch (why) {
    noMap(why);
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
    } catch (why) {
      noMap(why);
    }
  });
}

// -- ways in --

$("stage").addEventListener("click", () => {
  if (!$("stage").classList.contains("filled")) $("file").click();
});

const accept = (files) => {
  const picture = [...files].find((file) => file.type.startsWith("image/")) ?? files[0];
  if (picture) take(picture, picture.name || "picture.png");
};
$("file").addEventListener("change", () => {
  accept($("file").files);
  // So that the same file can be chosen again.
  $("file").value = "";
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) accept(event.clipboardData.files);
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
  accept(event.dataTransfer.files);
});
offerSamples(async (file) => {
  try {
    take(await client.blob(`samples/${file}`), file);
  } catch (why) {
    fail(why, () => $("samples").querySelector(`[data-sample="${file}"]`).click());
  }
});

// -- keys --

let retry = null;

/** Shows an error; a missing key is asked for, and then what failed is tried again. */
function fail(why, again) {
  showError(why);
  if (why.status !== 401) return;
  retry = again;
  $("key-why").textContent = why.detail;
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
