// The field of names, with completion among the classes that are known.
import { el } from "./dom.js";

const MOST = 8;

/** Returns a name as the server keeps it. */
export const tidy = (text) => text.normalize("NFC").trim().replace(/\s+/g, " ");

export class Names {
  /** @param {object} options - The field, its list, and `known`, which returns [name, count] pairs. */
  constructor(field, list, known) {
    Object.assign(this, { field, list, known, at: -1, shown: [] });
    field.addEventListener("input", () => this.suggest());
    field.addEventListener("blur", () => this.close());
  }

  get value() { return tidy(this.field.value); }

  clear() {
    this.field.value = "";
    this.close();
  }

  suggest() {
    const typed = this.value.toLowerCase();
    const names = typed ? this.known().filter(([name]) => name.toLowerCase().includes(typed)) : [];
    const rank = ([name]) => (name.toLowerCase().startsWith(typed) ? 0 : 1);
    names.sort((a, b) => rank(a) - rank(b) || b[1] - a[1] || a[0].localeCompare(b[0]));
    this.shown = names.slice(0, MOST).map(([name]) => name);
    this.list.replaceChildren(...names.slice(0, MOST).map(([name, count], i) => el("li", {
      role: "option", id: `${this.list.id}-${i}`, "aria-selected": "false",
      onmousedown: (event) => { event.preventDefault(); this.take(i); },
    }, el("span", {}, name), el("span", { class: "count" }, String(count)))));
    this.at = -1;
    const same = this.shown.length === 1 && this.shown[0] === this.value;
    this.open(this.shown.length > 0 && !same);
  }

  open(is) {
    this.list.hidden = !is;
    this.field.setAttribute("aria-expanded", String(is));
    if (!is) this.mark(-1);
  }

  close() { this.open(false); }

  get isOpen() { return !this.list.hidden; }

  mark(i) {
    this.at = i;
    [...this.list.children].forEach((item, k) => item.setAttribute("aria-selected", String(k === i)));
    if (i < 0) this.field.removeAttribute("aria-activedescendant");
    else this.field.setAttribute("aria-activedescendant", `${this.list.id}-${i}`);
    this.list.children[i]?.scrollIntoView({ block: "nearest" });
  }

  take(i) {
    this.field.value = this.shown[i];
    this.close();
  }

  /** Handles a key of the field; returns whether it was one of the list's. */
  key(event) {
    if (!this.isOpen) return false;
    const end = this.field.selectionStart === this.field.value.length;
    if (event.key === "ArrowDown") this.mark((this.at + 1) % this.shown.length);
    else if (event.key === "ArrowUp") this.mark(this.at <= 0 ? -1 : this.at - 1);
    else if (event.key === "ArrowRight" && end) this.take(Math.max(0, this.at));
    else if (event.key === "Escape") this.close();
    else if (event.key === "Enter" && this.at >= 0) {
      this.take(this.at);
      return false; // and the name is given
    } else return false;
    return true;
  }
}
