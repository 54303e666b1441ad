// Where the page asks when a proxy has put a path before its own. Wants Node alone: the part of the
// page that talks to the service is given what it needs of a browser.

import assert from "node:assert/strict";
import { test } from "node:test";

globalThis.document = { baseURI: "https://example.org/vit/" };
globalThis.sessionStorage = { getItem: () => null };

test("everything is asked for below the prefix", async () => {
  const asked = [];
  globalThis.fetch = async (url) => {
    asked.push(new URL(url, document.baseURI).href);
    return new Response("{}");
  };
  const client = await import("../../src/http/page/client.js");
  await client.classify(new Blob(["x"]), { attention: "heads" });
  // As answers have it.
  const map = "/attention/ID";
  await client.json(client.path(map, { format: "json" }));
  await client.blob(new URL(client.path(map, {}), document.baseURI).href);
  await client.forget(map);
  assert.deepEqual(asked, [
    "https://example.org/vit/classify?attention=heads",
    "https://example.org/vit/attention/ID?format=json",
    "https://example.org/vit/attention/ID",
    "https://example.org/vit/attention/ID",
  ]);
  assert.equal(client.base(), "https://example.org/vit/");
});
