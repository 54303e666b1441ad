// A number that can be walked up and down, whose end may only be learnt by walking into it.

let count = 0;

/** Adds one to `parent`; `changed` is called after every step. */
export function stepper(parent, name, changed) {
  count += 1;
  const box = document.createElement("div");
  box.className = "stepper";
  const label = Object.assign(document.createElement("label"), { textContent: name, htmlFor: `step-${count}` });
  const input = Object.assign(document.createElement("input"), { id: `step-${count}`, type: "number", min: 0, value: 0, inputMode: "numeric" });
  const button = (text, by, hint) => {
    const element = Object.assign(document.createElement("button"), { type: "button", textContent: text, ariaLabel: hint });
    element.addEventListener("click", () => go(Number(input.value) + by));
    return element;
  };
  const down = button("−", -1, `${name}: one down`);
  const up = button("+", 1, `${name}: one up`);
  const of = Object.assign(document.createElement("span"), { className: "fine" });
  box.append(label, down, input, up, of);
  parent.append(box);

  /** What the server was last happy with. */
  let settled = 0;
  const most = () => (input.max === "" ? Infinity : Number(input.max));
  const mark = () => {
    down.disabled = Number(input.value) <= 0;
    up.disabled = Number(input.value) >= most();
    of.textContent = input.max === "" ? "" : `of 0 … ${input.max}`;
  };
  const go = (value) => {
    input.value = Math.min(most(), Math.max(0, Math.trunc(value) || 0));
    mark();
    changed();
  };
  input.addEventListener("change", () => go(Number(input.value)));
  mark();

  return {
    get value() {
      return Number(input.value);
    },
    /** The value was taken. */
    settle() {
      settled = Number(input.value);
    },
    /** There are so many, where that is known. */
    limit(many) {
      if (Number.isInteger(many)) input.max = many - 1;
      mark();
    },
    /** The value was refused: goes back, and says whether there was anywhere to go. */
    refuse() {
      const value = Number(input.value);
      if (value === settled) return false;
      if (value > settled && value === settled + 1) input.max = settled;
      input.value = settled;
      mark();
      return true;
    },
  };
}
