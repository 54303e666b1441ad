// The panel beside the image: labels, the sum of an attribution, times, commands, errors.

import { curl, duration, milliseconds, percent, signed, sum } from "./format.js";

const $ = (id) => document.getElementById(id);

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

const SCORES = { sigmoid: "Each score stands for itself; together they do not make 100 %." };

const UNLIKE = "This image is unlike the images that this model was made for: its labels mean nothing.";
const UNCALIBRATED = "Nobody has measured how often this model's scores are right.";

/** What the answer is worth, in words. */
function worth(confidence) {
  if (!confidence) return UNCALIBRATED;
  const { set, coverage, calibrated_score: score } = confidence;
  const sure = score === undefined ? "" : `The first label is right in about ${percent(score)} of such answers.`;
  if (!set) return sure;
  const names = set.map(({ label }) => label);
  const labels = names.length > 5 ? `${names.slice(0, 5).join(", ")} or ${names.length - 5} more` : names.join(", ");
  return `${sure} In ${percent(coverage)} of cases the right one is among: ${labels}.`;
}

/** Labels, times and the raw answer. `pick` is called with the prediction whose label is clicked; null where no label has evidence. */
export function showAnswer(answer, roundTrip, onSelect) {
  $("intro").hidden = true;
  $("result").hidden = $("more").hidden = false;
  $("model").textContent = `model ${answer.model}`;
  const unlike = answer.confidence?.familiar === false;
  $("unlike").textContent = unlike ? UNLIKE : "";
  $("unlike").hidden = !unlike;
  $("worth").textContent = unlike ? "" : worth(answer.confidence);
  const caution = [answer.caution, SCORES[answer.scores], answer.attention ? "" : `No map: ${answer.attention_note ?? "none was kept"}.`];
  $("caution").textContent = caution.filter(Boolean).join(" ");
  $("caution").hidden = $("caution").textContent === "";
  $("labels").replaceChildren(
    ...answer.predictions.map((prediction) => row(prediction, onSelect)),
  );
  $("labels-hint").textContent = onSelect ? "Choose a label to see the evidence for it." : "Evidence for labels is not kept with this map.";
  $("labels-hint").hidden = !answer.attention;
  $("kept").textContent = answer.attention ? `Kept for ${duration(answer.attention.expires_in_s)} at most.` : "";
  $("forget").hidden = !answer.attention;
  showTimes(answer.timing_ms, roundTrip);
  $("answer").textContent = JSON.stringify(answer, null, 2);
  const [best] = answer.predictions;
  $("announce").textContent = best
    ? `${answer.predictions.length} labels; the first is ${best.label}, ${percent(best.score)}.`
    : "No label.";
}

function row(prediction, onSelect) {
  const button = make("button");
  button.type = "button";
  button.dataset.classId = prediction.class_id;
  button.ariaPressed = "false";
  const bar = make("span", "bar");
  bar.style.setProperty("--share", prediction.score);
  button.append(make("span", "name", prediction.label), make("span", "score", percent(prediction.score)), bar);
  if (onSelect) button.addEventListener("click", () => onSelect(prediction));
  else button.disabled = true;
  const item = make("li");
  item.append(button);
  return item;
}

/** Marks the label whose evidence is shown; null for none. */
export function markLabel(classId) {
  for (const button of $("labels").querySelectorAll("button")) {
    button.ariaPressed = String(Number(button.dataset.classId) === classId);
  }
}

/** How the logit adds up. Hidden for maps that are no evidence. */
export function showAccount(map) {
  const account = $("account");
  account.hidden = map.method !== "attribution" || !Number.isFinite(map.logit);
  if (account.hidden) return;
  const entries = [
    ["patches", signed(sum(map.values))],
    ["everything else", signed(map.unattributed)],
    ["logit", signed(map.logit)],
    ["not accounted for", signed(map.residual, 5)],
  ];
  account.replaceChildren(...entries.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]));
}

const STAGES = [
  ["decode", "Decode"],
  ["preprocess", "Preprocess"],
  ["queue", "Queue"],
  ["inference", "Inference"],
];

/** A waterfall: each stage begins where the one before it ended. */
function showTimes(times, roundTrip) {
  const known = STAGES.map(([stage, name]) => [name, times[stage] ?? 0]);
  const rest = Math.max(0, times.total - known.reduce((total, [, time]) => total + time, 0));
  const travel = Math.max(0, roundTrip - times.total);
  const rows = [...known, ["Answer", rest], ["Network and browser", travel]];
  const whole = Math.max(roundTrip, times.total);
  let from = 0;
  const lines = rows.flatMap(([name, time]) => {
    const span = make("dd", "", milliseconds(time));
    span.style.setProperty("--from", from / whole);
    span.style.setProperty("--long", time / whole);
    from += time;
    return [make("dt", "", name), span];
  });
  lines.push(make("dt", "total", "On the server"), make("dd", "total", milliseconds(times.total)));
  lines.push(make("dt", "", "Map, drawn and fetched"), make("dd", "apart", "…"));
  $("timing").replaceChildren(...lines);
}

/** How long the map took, which comes after the answer. */
export function showMapTime(time) {
  $("timing").lastElementChild.textContent = milliseconds(time);
}

export function showCommands(commands) {
  $("curl").textContent = curl(commands);
}

/** `null` clears it. */
export function showError(error) {
  $("error").hidden = !error;
  if (!error) return;
  $("error-title").textContent = error.title ?? "The page failed.";
  $("error-detail").textContent = error.detail ?? error.message;
  const traces = [error.status && `${error.status} ${error.code}`, error.requestId && `request ${error.requestId}`];
  $("error-code").textContent = traces.filter(Boolean).join(" · ");
}
