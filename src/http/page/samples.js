// The sample pictures that this server carries.

import { json } from "./client.js";

/** A button for each, which gives its file's name to `take`; none where there is no list of them. */
export async function offerSamples(take) {
  const listed = await json("samples/samples.json").catch(() => []);
  document.getElementById("samples").replaceChildren(...listed.map(({ file, label }) => {
    const button = Object.assign(document.createElement("button"), { type: "button", ariaLabel: `Sample: ${label}` });
    button.dataset.sample = file;
    button.append(Object.assign(new Image(), { src: `samples/${file}`, alt: "" }));
    button.addEventListener("click", () => take(file));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}
