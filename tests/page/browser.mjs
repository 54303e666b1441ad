// Debian's Chromium, without a network of its own.

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const CANDIDATES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** A fresh browser with a profile of its own, which goes with it. */
export async function launch() {
  const executablePath = CANDIDATES.find((candidate) => candidate && existsSync(candidate));
  if (!executablePath) throw new Error(`no Chromium at ${CANDIDATES.filter(Boolean).join(", ")}; set CHROMIUM`);
  return chromium.launch({ executablePath, args: FLAGS });
}

/** A page on which everything that goes wrong in the browser is noted in `errors`. */
export async function open(browser, address, options = {}) {
  const context = await browser.newContext({ reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  // The machine may be busy with other things.
  page.setDefaultTimeout(60_000);
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(String(error)));
  page.on("console", (message) => {
    // Chromium reports every answer that is not 2xx; those are the page's business.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) page.errors.push(message.text());
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol.startsWith("http") && url.host !== address) page.errors.push(`asks outside: ${url}`);
  });
  await page.goto(`http://${address}/`);
  return page;
}

/** Waits until the map that was asked for is painted. */
export async function painted(page) {
  await page.waitForFunction(() => document.querySelector("#viewer").ariaBusy === "false" && document.querySelector("#frame").dataset.painted !== undefined);
}
