// The page in a real browser, against the real server at PATCHLIGHT_ADDRESS. Where an answer depends
// on more than this server can do (keys, evidence, heads), the browser is given one in its place.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { mockResponses, attribution, heads, requiresKey, rolloutOnly, runningVerify, withoutVerify } from "./mock-responses.mjs";
import { launch, open, painted } from "./browser.mjs";
import { lowContrast, controlsWithoutName } from "./accessibility.mjs";

const address = process.env.PATCHLIGHT_ADDRESS;
const samples = new URL("../../models/samples/", import.meta.url);
const sample = (name) => new URL(name, samples).pathname;
const listed = JSON.parse(await readFile(sample("samples.json")));
/** Whichever they are: the first one, and another. */
const [first, other] = listed.map(({ file }) => file);

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

/** A test on a page of its own, on which nothing may go wrong unseen. */
function onPage(name, check, options) {
  test(name, async () => {
    const page = await open(browser, address, options);
    try {
      await check(page);
      assert.deepEqual(page.errors, []);
    } finally {
      await page.context().close();
    }
  });
}

async function classified(page, name = first) {
  await page.setInputFiles("#file", sample(name));
  await painted(page);
}

/** The answer that the page shows. */
async function answered(page) {
  return JSON.parse(await page.locator("#answer").textContent());
}

/** How far the canvas is from what the server draws, in levels of 255. */
function distance(page, query) {
  return page.evaluate(async (query) => {
    const url = new URL(document.querySelector("#link-png").href);
    const bytes = await (await fetch(`${url.pathname}?${query}`)).blob();
    const drawn = await createImageBitmap(bytes, { colorSpaceConversion: "none" });
    const canvas = document.querySelector("#map");
    const copy = new OffscreenCanvas(drawn.width, drawn.height).getContext("2d");
    copy.drawImage(drawn, 0, 0);
    const theirs = copy.getImageData(0, 0, drawn.width, drawn.height).data;
    const ours = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let [sum, maximum] = [0, 0];
    for (let at = 0; at < theirs.length; at += 1) {
      const apart = Math.abs(theirs[at] - ours[at]);
      sum += apart;
      maximum = Math.max(maximum, apart);
    }
    return { sameSize: theirs.length === ours.length, mean: sum / theirs.length, maximum };
  }, query);
}

async function strength(page, percent) {
  await page.locator("#alpha").fill(String(percent));
  await page.waitForFunction((alpha) => document.querySelector("#frame").dataset.painted === alpha, String(percent / 100));
}

onPage("an uploaded image gets labels, a map, times, links and commands", async (page) => {
  await classified(page);
  assert.equal(await page.locator("#labels li").count(), 5);
  assert.match(await page.locator("#labels .score").first().textContent(), /^\d+(\.\d)? %$/);
  // The demo is calibrated: either the image is unlike its drawings, or the labels' worth is said.
  const unlike = await page.locator("#unlike").isVisible();
  assert.match(await page.locator(unlike ? "#unlike" : "#worth").textContent(), unlike ? /unlike the images/ : /the right one is among/);
  assert.match(await page.locator("#frame").getAttribute("aria-label"), /^Rollout: strongest in the /);
  assert.match(await page.locator("#timing").textContent(), /Decode.*Preprocess.*Queue.*Inference.*On the server/);
  const commands = await page.locator("#curl").textContent();
  assert.ok(commands.startsWith(`curl -F image=@${first} http://`), commands);
  assert.match(commands, /\/classify\ncurl -o map\.png /);
  for (const [link, type] of [["png", "image/png"], ["json", "application/json"], ["npy", "application/x-npy"]]) {
    const answer = await page.request.get(await page.locator(`#link-${link}`).evaluate((a) => a.href));
    assert.equal(answer.status(), 200);
    assert.equal(answer.headers()["content-type"], type);
  }
});

onPage("a sample is one click", async (page) => {
  const buttons = page.locator("#samples button");
  await buttons.first().waitFor();
  assert.ok((await buttons.count()) > 1);
  const { file, label } = listed.find((entry) => entry.file === first);
  assert.equal(await buttons.first().getAttribute("data-sample"), file);
  await page.getByRole("button", { name: `Sample: ${label}` }).click();
  await painted(page);
  assert.equal(await page.locator("#labels li").count(), 5);
});

onPage("an image can be dropped and pasted", async (page) => {
  const bytes = [...(await readFile(sample(other)))];
  for (const kind of ["drop", "paste"]) {
    await page.evaluate(([kind, bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], `${kind}ped.jpg`, { type: "image/jpeg" }));
      const given = { bubbles: true, cancelable: true };
      const event = kind === "drop"
        ? new DragEvent("drop", { ...given, dataTransfer: data })
        : new ClipboardEvent("paste", { ...given, clipboardData: data });
      document.dispatchEvent(event);
    }, [kind, bytes]);
    await painted(page);
    assert.match(await page.locator("#curl").textContent(), new RegExp(`image=@${kind}ped\\.jpg`));
  }
});

// The server draws on a JPEG copy of the image, which is as good as the image where that is plain.
onPage("the overlay is the server's at every strength", async (page) => {
  await page.evaluate(async () => {
    const canvas = new OffscreenCanvas(320, 240);
    const context = canvas.getContext("2d");
    context.fillStyle = "rgb(200 120 40)";
    context.fillRect(0, 0, 320, 240);
    const data = new DataTransfer();
    data.items.add(new File([await canvas.convertToBlob()], "plain.png", { type: "image/png" }));
    document.dispatchEvent(new DragEvent("drop", { cancelable: true, dataTransfer: data }));
  });
  await painted(page);
  const agree = async (map) => {
    for (const percent of [0, 15, 30, 50, 80, 100]) {
      await strength(page, percent);
      const { sameSize, maximum } = await distance(page, `${map}view=overlay&alpha=${percent / 100}`);
      assert.ok(sameSize);
      const copied = percent < 100 ? 2 : 0;
      assert.ok(maximum <= copied, `${map} ${percent} %: ${maximum} levels apart`);
    }
  };
  await agree("");
  if (!(await answered(page)).attention.maps.includes("class")) return;
  const label = page.locator("#labels button").first();
  await label.click();
  await painted(page);
  await agree(`class=${await label.getAttribute("data-class-id")}&contrast=true&`);
});

onPage("an image stored sideways lies upright under its map", async (page) => {
  const { file } = listed.find(({ file }) => file.includes("rotated"));
  await classified(page, file);
  await strength(page, 0);
  assert.ok((await distance(page, "view=overlay&alpha=0")).mean < 2.5);
  const { width, height } = (await answered(page)).image;
  const box = await page.locator("#frame").boundingBox();
  assert.ok(Math.abs(box.width / box.height - width / height) < 0.02);
});

onPage("what was cropped away is hatched, and the map lies on the rest", async (page) => {
  const [inside, outside, within] = await page.evaluate(async () => {
    const { colormapSteps, regionPixels } = await import("/page/interpolate.js");
    const { overlay } = await import("/page/blend.js");
    const region = { x: 500, y: 0, width: 3000, height: 3001 };
    const image = { width: 4000, height: 3001 };
    const [width, height] = [1000, 750];
    const inside = regionPixels(region, image, width, height);
    const map = { method: "rollout", grid: [1, 2], values: [0, 1] };
    const grey = new Uint8ClampedArray(width * height * 4).fill(200);
    const blend = { imagePixels: grey, colors: grey, steps: colormapSteps(map, region, image, width, height, false), width, height, inside, signed: false };
    const painted = overlay(blend, 0.5).data;
    return [inside, [...painted.subarray(0, 12)], [blend.steps[499], blend.steps[500]]];
  });
  assert.deepEqual(inside, { left: 125, right: 875, top: 0, bottom: 750 });
  // 200 · 90 / 256, and a hatching line of three pixels.
  assert.deepEqual(outside, [92, 92, 92, 255, 110, 110, 110, 255, 92, 92, 92, 255]);
  // Half a map of twice its fair share: 2 / (2 + 2).
  assert.deepEqual(within, [0, 128]);
});

onPage("heat map and contours are the server's own", async (page) => {
  await classified(page);
  for (const view of ["heatmap", "contour"]) {
    await page.locator(`input[name=view][value=${view}]`).check();
    await painted(page);
    assert.equal((await distance(page, `view=${view}`)).maximum, 0);
  }
  await page.locator("#colormap").selectOption("viridis");
  await painted(page);
  await page.getByLabel("Bare patches").check();
  await painted(page);
  assert.equal((await distance(page, "view=contour&colormap=viridis&smooth=none")).maximum, 0);
});

onPage("the strength is dragged with the keyboard too", async (page) => {
  await classified(page);
  await page.locator("#alpha").focus();
  await page.keyboard.press("Home");
  await page.waitForFunction(() => document.querySelector("#frame").dataset.painted === "0");
  assert.equal(await page.locator("#alpha").getAttribute("aria-valuetext"), "0 %");
  await page.keyboard.press("ArrowRight");
  await page.waitForFunction(() => document.querySelector("#frame").dataset.painted === "0.01");
});

onPage("before and after are divided where the divider is", async (page) => {
  await classified(page);
  const clip = () => page.locator("#map").evaluate((canvas) => getComputedStyle(canvas).clipPath);
  assert.match(await clip(), /^inset\(0px( 0px 0px 0%)?\)$/);
  await page.getByLabel("Compare before and after").check();
  assert.match(await clip(), /50%\)$/);
  const box = await page.locator("#frame").boundingBox();
  await page.mouse.click(box.x + box.width * 0.25, box.y + box.height / 2);
  assert.match(await clip(), /2[3-7]%\)$/);
});

onPage("a label shows its evidence, and the rollout again", async (page) => {
  await classified(page);
  const label = page.locator("#labels button").nth(1);
  await label.click();
  assert.equal(await label.getAttribute("aria-pressed"), "true");
  await painted(page);
  assert.match(await page.locator("#frame").getAttribute("aria-label"), /^Evidence for /);
  assert.ok(await page.locator("#account").isVisible());
  await label.click();
  await painted(page);
  assert.equal(await label.getAttribute("aria-pressed"), "false");
  assert.match(await page.locator("#frame").getAttribute("aria-label"), /^Rollout/);
});

onPage("evidence that is not kept is not offered, and what was chosen falls back to the rollout", async (page) => {
  await classified(page);
  await page.getByLabel("Evidence", { exact: true }).check();
  await painted(page);
  const asked = await mockResponses(page, rolloutOnly);
  await classified(page, other);
  assert.ok(await page.getByLabel("Evidence", { exact: true }).isDisabled());
  assert.ok(await page.locator("#labels button").first().isDisabled());
  assert.match(await page.locator("#labels-hint").textContent(), /not kept/);
  assert.match(await page.locator("#frame").getAttribute("aria-label"), /^Rollout/);
  assert.ok(asked.every((url) => !url.includes("class=")));
});

onPage("evidence is signed, for one label, and adds up", async (page) => {
  await mockResponses(page, attribution);
  await classified(page);
  await page.locator("#labels button").first().click();
  await painted(page);
  const account = await page.locator("#account").textContent();
  assert.equal(account, "patches+1.25everything else+3.20logit+4.45not accounted for+0.00003");
  assert.match(await page.locator("#ticks").textContent(), /^against.*for this label$/);
  assert.match(await page.locator("#link-json").getAttribute("href"), /class=\d+&contrast=true&format=json/);
  await page.getByLabel("Against the mean of all classes").uncheck();
  await painted(page);
  assert.doesNotMatch(await page.locator("#link-json").getAttribute("href"), /contrast/);
});

onPage("layers and heads are walked to their end and no further", async (page) => {
  await mockResponses(page, heads({ layers: 3, heads: 2 }));
  await classified(page);
  await page.getByLabel("Single heads").check();
  await painted(page);
  assert.match(await page.locator("#curl").textContent(), /classify\?attention=heads/);
  const up = page.getByRole("button", { name: "Layer: one up" });
  for (const at of ["1", "2"]) {
    await up.click();
    await painted(page);
    assert.equal(await page.getByLabel("Layer", { exact: true }).inputValue(), at);
  }
  await up.click();
  await page.waitForFunction(() => document.querySelector("#steppers button:nth-of-type(2)").disabled);
  await painted(page);
  assert.equal(await page.getByLabel("Layer", { exact: true }).inputValue(), "2");
});

onPage("maps are tested on demand, and what came of it is said", async (page) => {
  await classified(page);
  await page.getByRole("button", { name: "Test these maps" }).click();
  await page.locator("#verify-result").waitFor();
  const verdict = await page.locator("#verify-verdict").textContent();
  assert.match(verdict, /^Rollout: .*truer than a random order.*\. Evidence: .*\.$/);
  assert.equal(await page.locator("#verify-charts polyline").count(), 6);
  const rows = await page.locator("#verify-table tr").allTextContents();
  assert.equal(rows.length, 3);
  for (const row of rows) assert.match(row, /^(Rollout|Evidence|Random order)[01]\.\d{3}[01]\.\d{3}$/);
  // Another image has no result yet.
  await classified(page, other);
  assert.ok(await page.locator("#verify-result").isHidden());
  assert.ok(await page.getByRole("button", { name: "Test these maps" }).isVisible());
});

onPage("a test says how far it is and can be stopped", async (page) => {
  await mockResponses(page, runningVerify);
  await classified(page);
  const start = page.getByRole("button", { name: "Test these maps" });
  await start.click();
  await page.getByText("20 of 56 images").waitFor();
  await page.getByRole("button", { name: "Stop" }).click();
  assert.ok(await start.isVisible());
  assert.ok(await page.locator("#verify-running").isHidden());
});

onPage("where the server makes no tests, none is offered", async (page) => {
  await mockResponses(page, withoutVerify);
  await classified(page);
  assert.ok(await page.locator("#verify").isHidden());
});

onPage("a file that is no image is refused kindly, and the next one works", async (page) => {
  await page.setInputFiles("#file", { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("no image") });
  const alert = page.getByRole("alert");
  await alert.waitFor();
  assert.match(await alert.textContent(), /Unknown format\. .*415 unsupported_format · request /s);
  assert.ok(await page.locator("#result").isHidden());
  await classified(page);
  assert.ok(await alert.isHidden());
  assert.ok(await page.locator("#result").isVisible());
});

onPage("a server that is gone is said to be", async (page) => {
  await page.route("**/classify*", (route) => route.abort());
  await page.setInputFiles("#file", sample(first));
  await page.getByRole("alert").waitFor();
  assert.match(await page.getByRole("alert").textContent(), /No answer\./);
});

onPage("a key is asked for once, goes with every request, and is nowhere to be seen", async (page) => {
  const asked = await mockResponses(page, requiresKey("s3cret"));
  await page.setInputFiles("#file", sample(first));
  await page.getByRole("dialog").waitFor();
  await page.getByLabel("Key", { exact: true }).fill("s3cret");
  await page.keyboard.press("Enter");
  await painted(page);
  assert.ok(asked.some((url) => url.includes("/attention/")));
  assert.ok(asked.every((url) => !url.includes("s3cret")));
  const text = await page.locator("body").innerText();
  assert.ok(!text.includes("s3cret"));
  assert.match(text, /Authorization: Bearer \$PATCHLIGHT_KEY/);
  const download = page.waitForEvent("download");
  await page.locator("#link-png").click();
  assert.equal((await download).suggestedFilename(), "map.png");
});

onPage("patches are read with the arrow keys", async (page) => {
  await classified(page);
  await page.locator("#frame").focus();
  await page.keyboard.press("ArrowRight");
  const readout = page.locator("#readout");
  const first = await readout.textContent();
  assert.match(first, /^Row \d+, column \d+: .* × its fair share$/);
  await page.keyboard.press("ArrowDown");
  assert.notEqual(await readout.textContent(), first);
  assert.ok(await page.locator("#cursor").isVisible());
  await page.keyboard.press("Escape");
  assert.match(await readout.textContent(), /^Rollout/);
});

onPage("the interface is shown with all its operations, and found by a word", async (page) => {
  await page.goto(`http://${address}/docs`);
  const told = await (await fetch(`http://${address}/openapi.json`)).json();
  const operations = Object.values(told.paths).flatMap((methods) => Object.values(methods));
  for (const { operationId } of operations) await page.locator(`#${operationId}`).waitFor();
  await page.locator("#classify > summary").click();
  assert.match(await page.locator("#classify").textContent(), /top_k.*multipart\/form-data/s);
  await page.locator("#schema-Map > summary").click();
  assert.match(await page.locator("#schema-Map").textContent(), /unattributed/, "members of every form are there");
  await page.locator("#find").fill("prometheus");
  assert.ok(await page.locator("#metrics").isVisible());
  assert.ok(await page.locator("#classify").isHidden());
});

for (const [name, options] of [
  ["light", { colorScheme: "light" }],
  ["dark", { colorScheme: "dark" }],
  ["phone", { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }],
]) {
  onPage(`${name}: every control has a name, text has contrast, nothing sticks out`, async (page) => {
    for (const state of ["empty", "answered"]) {
      if (state === "answered") await classified(page);
      assert.deepEqual(await controlsWithoutName(page), []);
      assert.deepEqual(await page.evaluate(lowContrast), []);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    }
  }, options);
}
