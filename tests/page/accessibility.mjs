// Accessibility checks: names of controls, and contrast.

/** Roles that can be operated. */
const OPERABLE = new Set(["button", "link", "slider", "checkbox", "radio", "combobox", "textbox", "spinbutton", "application"]);

/** Controls without an accessible name, as Chromium computes it. */
export async function controlsWithoutName(page) {
  const session = await page.context().newCDPSession(page);
  const { nodes } = await session.send("Accessibility.getFullAXTree");
  await session.detach();
  return nodes
    .filter((node) => !node.ignored && OPERABLE.has(node.role?.value) && !node.name?.value?.trim())
    .map((node) => `${node.role.value} ${node.backendDOMNodeId}`);
}

/**
 * Runs in the page: visible texts whose contrast is below what WCAG 2.2 asks for at level AA, 4.5 to
 * 1, or 3 to 1 for large text. Disabled controls are exempt there as here.
 */
export function lowContrast() {
  const paint = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = color;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([red, green, blue]) => {
    const linear = [red, green, blue].map((byte) => {
      const value = byte / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] > 200) return color;
    }
    return [255, 255, 255];
  };
  const low = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const element = text.parentElement;
    if (!text.data.trim() || !element.checkVisibility() || element.closest(".sr, .hero, .prompt, :disabled, script, option")) continue;
    const style = getComputedStyle(element);
    const [light, dark] = [luminance(rgba(style.color)), luminance(ground(element))].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) low.push(`${text.data.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return low;
}
