// Takes the README's image of the page, with a server running:
//   npm ci --prefix tests/page && node tests/page/screenshot.mjs [ADDRESS:PORT] [SAMPLE] [FILE]
// Needs Node 20.15 or 22.2.

import { writeFileSync } from "node:fs";
import { encode } from "./png.mjs";
import { launch, open, painted } from "./browser.mjs";

const [address = "127.0.0.1:8080", sample = "", file = new URL("../../docs/page.png", import.meta.url).pathname] =
  process.argv.slice(2);

const browser = await launch();
try {
  const page = await open(browser, address, { viewport: { width: 1200, height: 800 }, colorScheme: "light" });
  // The first answer of a fresh page also pays for compiling its scripts.
  for (let turn = 0; turn < 2; turn += 1) {
    // The turn before left its mark; only the new one counts.
    await page.evaluate(() => delete document.querySelector("#frame").dataset.painted);
    await page.locator(sample ? `[data-sample="${sample}"]` : "[data-sample]").first().click();
    await painted(page);
  }
  await page.mouse.move(0, 0);
  await page.evaluate(() => document.activeElement.blur());
  const shot = (await page.screenshot()).toString("base64");
  const { width, height, rgb } = await page.evaluate(coarse, shot);
  const png = encode(width, height, Buffer.from(rgb, "base64"));
  writeFileSync(file, png);
  console.log(`${file}: ${Math.round(png.length / 1024)} KB`);
} finally {
  await browser.close();
}

/** Runs in the page: the pixels, with 64 levels a channel. The eye cannot tell, and the file can. */
async function coarse(png) {
  const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
  const shot = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const { width, height } = shot;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(shot, 0, 0);
  const rgba = context.getImageData(0, 0, width, height).data;
  let rgb = "";
  rgba.forEach((level, at) => {
    if (at % 4 !== 3) rgb += String.fromCharCode(Math.min(255, Math.round(level / 4) * 4));
  });
  return { width, height, rgb: btoa(rgb) };
}
