// Hugging Face's own JavaScript client of the image classification task, unmodified, against the demo model.
//
//     node hf_task.mjs ADDRESS IMAGE
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { InferenceClient, imageClassification } from "@huggingface/inference";

const [address, path] = process.argv.slice(2);
const server = `http://${address}`;
const image = new Blob([await readFile(path)], { type: "image/jpeg" });
const answer = await fetch(`${server}/classify?top_k=5`, { method: "POST", body: image });
const { predictions } = await answer.json();
const expected = predictions.map(({ label, score }) => ({ label, score }));

for (const endpointUrl of [`${server}/`, `${server}/models/demo`]) {
  assert.deepEqual(await imageClassification({ endpointUrl, data: image }), expected);
  const client = new InferenceClient().endpoint(endpointUrl);
  assert.deepEqual(await client.imageClassification({ data: image }), expected);
}

await assert.rejects(
  imageClassification({ endpointUrl: `${server}/models/nobody`, data: image }),
  (error) => error.message.includes("nobody") && error.httpResponse.status === 404,
);
