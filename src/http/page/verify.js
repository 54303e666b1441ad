// "Is it true?": has the server take patches away in the order of each map, and shows what that did
// to the score. Only where the answer links to such a test.

import * as client from "./client.js";
import { chart } from "./chart.js";
import { gain } from "./format.js";

const $ = (id) => document.getElementById(id);

/** How long to wait between two polls of a running test. */
const PAUSE = 400;

const NAMES = { rollout: "Rollout", class: "Evidence", random: "Random order" };

/** The current test: its URL, and what ends the polling. */
let test = null;

/** Offers a test of this answer's maps, if the server makes any. Another answer's test is called off. */
export function offer(answer) {
  if (test?.running) client.remove(test.url).catch(() => {});
  test?.polling.abort();
  const url = answer?.attention?.verify;
  test = url ? { url, polling: new AbortController(), running: false } : null;
  $("verify").hidden = !test;
  show("offered");
}

async function start() {
  const started = test;
  const { url, polling } = started;
  started.running = true;
  show("running");
  try {
    let status = await client.start(url, polling.signal);
    while (status.status === "waiting" || status.status === "running") {
      progress(status);
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
      status = await client.json(url, polling.signal);
    }
    started.running = false;
    if (started !== test) return;
    if (status.status === "done") done(status.result);
    else failed(status.error.detail);
  } catch (error) {
    started.running = false;
    if (error.name !== "AbortError" && started === test) failed(error.detail ?? error.message);
  }
}

async function stop() {
  const { url, polling } = test;
  polling.abort();
  test = { url, polling: new AbortController(), running: false };
  show("offered");
  await client.remove(url).catch(() => {});
}

function show(state) {
  $("verify-start").hidden = state === "running" || state === "done";
  $("verify-running").hidden = state !== "running";
  $("verify-result").hidden = state !== "done";
  $("verify-failed").hidden = state !== "failed";
  $("verify-progress").removeAttribute("value");
}

function progress({ status, progress: { done, of } }) {
  const bar = $("verify-progress");
  if (of > 0) Object.assign(bar, { max: of, value: done });
  $("verify-count").textContent = status === "waiting" ? "waiting for its turn" : `${done} of ${of} images`;
}

function failed(error) {
  show("failed");
  $("verify-failed").textContent = `The test could not be done. ${error}`;
}

function done(result) {
  show("done");
  const lines = [...result.maps, { map: "random", ...result.random }];
  $("verify-charts").replaceChildren(
    chart("Taken away", lines.map(({ map, deletion }) => [map, deletion.scores])),
    chart("Put back", lines.map(({ map, insertion }) => [map, insertion.scores])),
  );
  $("verify-table").replaceChildren(...lines.map(row));
  const verdicts = result.maps.map((map) => `${NAMES[map.map] ?? map.map}: ${gain(map.gain)}.`);
  $("verify-verdict").textContent = verdicts.join(" ");
}

function row({ map, deletion, insertion }) {
  const line = document.createElement("tr");
  const name = Object.assign(document.createElement("th"), { scope: "row", textContent: NAMES[map] ?? map });
  name.className = `line-${map}`;
  const cells = [deletion, insertion].map(({ area }) =>
    Object.assign(document.createElement("td"), { textContent: area.toFixed(3) }),
  );
  line.append(name, ...cells);
  return line;
}

$("verify-start").addEventListener("click", start);
$("verify-stop").addEventListener("click", stop);
