// Labels and a map with fetch. In a browser, the image is a File of an <input type="file">.
import { readFile } from "node:fs/promises";

const server = process.env.PATCHLIGHT ?? "http://localhost:8080";

async function classify(image) {
  const answer = await fetch(`${server}/classify?top_k=3`, { method: "POST", body: image, signal: AbortSignal.timeout(10_000) });
  const body = await answer.json();
  if (!answer.ok) throw new Error(`${body.code}: ${body.detail}`);
  return body;
}

const { predictions, attention } = await classify(await readFile("models/samples/penguin.jpg"));
for (const { label, score } of predictions) console.log(`${(100 * score).toFixed(1).padStart(5)} %  ${label}`);

const map = await fetch(server + attention.url, { headers: { Accept: "image/png" } });
console.log(`the map is a PNG of ${(await map.arrayBuffer()).byteLength} bytes`);
