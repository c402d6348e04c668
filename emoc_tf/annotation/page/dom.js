// Small helpers: elements, messages, dialogs.

export const $ = (id) => document.getElementById(id);

/** Returns an element with attributes, listeners (on...) and children. */
export function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "circle", "polygon"].includes(tag);
  const made = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(name, value);
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Tells screen readers something, also if it is what they were told last. */
export function announce(text) {
  const box = $("said");
  box.textContent = box.textContent === text ? `${text}\u00a0` : text;
}

let toastTimer;

/** Shows a short message that goes away by itself. */
export function toast(text) {
  const box = $("toast");
  box.textContent = text;
  box.hidden = false;
  announce(text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { box.hidden = true; }, 4000);
}

/** Shows a message that stays until it is taken away with an empty text. */
export function banner(text, mild = false) {
  const box = $("banner");
  if (box.textContent !== text) box.textContent = text;
  box.classList.toggle("mild", mild);
  box.hidden = !text;
}

/** Opens the dialog; returns a promise of what it was closed with. */
export function ask(title, content, buttons, { wide = false, onkey = null, pause = 0 } = {}) {
  const dialog = $("dialog");
  const before = document.activeElement;
  const opened = performance.now();
  return new Promise((resolve) => {
    const close = (value) => {
      dialog.onkeydown = dialog.oncancel = null;
      dialog.close();
      if (before && document.contains(before)) before.focus({ preventScroll: true });
      resolve(value);
    };
    const row = el("div", { class: "row" });
    for (const [text, value, primary] of buttons) {
      row.append(el("button", {
        type: "button", class: primary ? "primary" : null, autofocus: primary,
        onclick: () => close(typeof value === "function" ? value() : value),
      }, text));
    }
    dialog.className = wide ? "wide" : "";
    dialog.replaceChildren(el("h2", { id: "dialog-title" }, title), ...content, row);
    dialog.oncancel = (event) => { event.preventDefault(); close(null); };
    dialog.onkeydown = (event) => {
      // The second Enter of two, or one that is held down, was not meant for the question.
      const early = event.key === "Enter" && (event.repeat || performance.now() - opened < pause);
      if (early || onkey?.(event, close)) event.preventDefault();
      event.stopPropagation();
    };
    dialog.showModal();
    (dialog.querySelector("input") || dialog.querySelector("[autofocus]") || dialog).focus();
  });
}

/** Asks about a name that is nearly a known one; returns "new", "known" or null. */
export const askNear = ({ name, known }) => ask("Is it the same?", [
  el("p", {}, el("b", {}, name), " is nearly ", el("b", {}, known), ", which there is already."),
], [[`${name} is a new class`, "new"], [`It is ${known}`, "known", true]], { pause: 400 });

export const plural = (count, one, many = `${one}s`) =>
  `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** The words for a label. */
export const MARKS = {
  skip: "skipped, later", unsure: "not sure", reject: "cannot be named", left: "put back",
  none: "waits",
};
export const nameOf = (label) => (typeof label === "string" ? MARKS[label] : label.class);
