// A number with buttons for up and down, whose maximum may only be found by stepping beyond it.

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
    element.addEventListener("click", () => setValue(Number(input.value) + by));
    return element;
  };
  const down = button("−", -1, `${name}: one down`);
  const up = button("+", 1, `${name}: one up`);
  const of = Object.assign(document.createElement("span"), { className: "fine" });
  box.append(label, down, input, up, of);
  parent.append(box);

  /** The last value that the server accepted. */
  let accepted = 0;
  const maximum = () => (input.max === "" ? Infinity : Number(input.max));
  const mark = () => {
    down.disabled = Number(input.value) <= 0;
    up.disabled = Number(input.value) >= maximum();
    of.textContent = input.max === "" ? "" : `of 0 … ${input.max}`;
  };
  const setValue = (value) => {
    input.value = Math.min(maximum(), Math.max(0, Math.trunc(value) || 0));
    mark();
    changed();
  };
  input.addEventListener("change", () => setValue(Number(input.value)));
  mark();

  return {
    get value() {
      return Number(input.value);
    },
    /** The value was taken. */
    accept() {
      accepted = Number(input.value);
    },
    /** There are so many, where that is known. */
    limit(many) {
      if (Number.isInteger(many)) input.max = many - 1;
      mark();
    },
    /** The value was refused: goes back, and says whether there was anywhere to go. */
    reject() {
      const value = Number(input.value);
      if (value === accepted) return false;
      if (value > accepted && value === accepted + 1) input.max = accepted;
      input.value = accepted;
      mark();
      return true;
    },
  };
}
