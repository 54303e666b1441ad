// The animation before the first image: patches light up around the pointer.

const canvas = document.getElementById("hero");
const context = canvas.getContext("2d");
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

function draw(across, down) {
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  for (let row = 0; row < height; row += 1) {
    for (let col = 0; col < width; col += 1) {
      const distance = Math.hypot(col + 0.5 - across * width, row + 0.5 - down * height);
      const glow = Math.exp(-((distance / 4.2) ** 2));
      // Patches differ in brightness.
      const noise = Math.sin(col * 12.9898 + row * 78.233) * 43758.5453;
      const grain = 0.6 + 0.4 * (noise - Math.floor(noise));
      context.fillStyle = `rgb(255 ${Math.round(150 + 60 * glow)} ${Math.round(40 + 70 * glow)} / ${0.06 + 0.72 * glow * grain})`;
      context.fillRect(col, row, 1, 1);
    }
  }
}

draw(0.62, 0.4);
canvas.parentElement.addEventListener("pointermove", (event) => {
  if (reducedMotion.matches || canvas.parentElement.classList.contains("filled")) return;
  const box = canvas.getBoundingClientRect();
  draw((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
});
