// Mock responses, made from the server's own.

import assert from "node:assert/strict";

/** Answers requests as `rule` says; returns the list of URLs that were asked for. */
export async function mockResponses(page, rule) {
  const asked = [];
  await page.route(/\/(classify|attention)/, async (route) => {
    const url = new URL(route.request().url());
    asked.push(url.href);
    await rule(route, url);
  });
  return asked;
}

const problem = (status, code, detail) => ({
  status,
  contentType: "application/problem+json",
  body: JSON.stringify({ status, code, detail, request_id: "test" }),
});

/** The map of this server at the same address without these parameters. */
async function without(route, url, names, more = {}) {
  for (const name of names) url.searchParams.delete(name);
  for (const [name, value] of Object.entries(more)) url.searchParams.set(name, value);
  return route.fetch({ url: url.href });
}

/** Evidence for whatever class is asked for: 1.25 logits over all patches, some against. */
export async function attribution(route, url) {
  const classId = url.searchParams.get("class");
  if (classId === null) return route.continue();
  assert.equal(url.searchParams.get("colormap"), null);
  const colormap = "coolwarm";
  const answer = await without(route, url, ["class", "contrast"], { colormap });
  if (url.searchParams.get("format") !== "json") return route.fulfill({ response: answer });
  const map = await answer.json();
  const values = map.values.map((_, index) => (index === 0 ? 2.25 : index === 1 ? -1 : 0));
  const account = { unattributed: 3.2, logit: 4.45, residual: 0.00003 };
  return route.fulfill({ json: { ...map, ...account, values, method: "attribution", class_id: Number(classId), label: "dog" } });
}

/** A model of so many layers and heads, which does not say how many. */
export const heads = ({ layers, heads: count }) => async (route, url) => {
  if (url.pathname === "/classify") return route.fulfill({ response: await without(route, url, ["attention"]) });
  const [layer, head] = ["layer", "head"].map((name) => url.searchParams.get(name));
  if (layer === null) return route.continue();
  if (layer >= layers || head >= count) return route.fulfill(problem(400, "invalid_parameter", "there is no such head"));
  const answer = await without(route, url, ["layer", "head"]);
  if (url.searchParams.get("format") !== "json") return route.fulfill({ response: answer });
  return route.fulfill({ json: { ...(await answer.json()), method: "attention" } });
};

/** A server that wants a key. */
export const requiresKey = (key) => async (route) => {
  if (route.request().headers().authorization !== `Bearer ${key}`) {
    return route.fulfill(problem(401, "unauthorized", "no API key"));
  }
  return route.continue();
};

/** A test of maps that never gets any further. */
export async function runningVerify(route, url) {
  if (!url.pathname.endsWith("/verify")) return route.continue();
  const status = route.request().method() === "DELETE" ? 204 : 200;
  return route.fulfill({ status, json: { status: "running", progress: { done: 20, of: 56 } } });
}

/** A server that makes no tests. */
export async function withoutVerify(route, url) {
  if (url.pathname !== "/classify") return route.continue();
  const response = await route.fetch();
  const answer = await response.json();
  delete answer.attention.verify;
  return route.fulfill({ response, json: answer });
}

/** A server whose ids carry the rollout and nothing else. */
export async function rolloutOnly(route, url) {
  if (url.searchParams.has("class")) return route.fulfill(problem(409, "map_not_kept", "no evidence is kept"));
  if (url.pathname !== "/classify") return route.continue();
  const response = await route.fetch();
  const answer = await response.json();
  answer.attention.maps = ["rollout"];
  return route.fulfill({ response, json: answer });
}
