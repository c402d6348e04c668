// All that was said, the newest first, each to be taken back.
import { get, imageUrl, post } from "./api.js";
import { el, MARKS, plural, toast } from "./dom.js";

export class HistoryView {
  constructor(app, box) {
    Object.assign(this, { app });
    this.rows = el("ul", { class: "list entries" });
    this.more = el("button", { type: "button", onclick: () => this.load(this.before) }, "Older");
    box.append(el("h2", { id: "history-title" }, "History"), this.rows, this.more);
  }

  open() { this.load(); }

  update() { if (this.rows.children.length <= 50) this.load(); }

  /** Shows the newest, or older ones as well. What has the focus keeps it. */
  async load(before = null) {
    const found = await get("history", { before: before === null ? "" : String(before) });
    if (!found.ok) return;
    const shown = JSON.stringify(found);
    if (before === null && shown === this.shown && this.rows.children.length) return;
    this.shown = before === null ? shown : "";
    this.before = found.before;
    this.more.hidden = found.before <= 0;
    const rows = found.rows.map((row) => this.row(row));
    const at = [...this.rows.children].find((row) => row.contains(document.activeElement));
    if (before === null) this.rows.replaceChildren(...rows);
    else this.rows.append(...rows);
    if (!this.rows.children.length) this.rows.append(el("li", {}, "Nothing was said yet."));
    const same = at && rows.find((row) => row.id === at.id);
    if (same && !at.isConnected) (same.querySelector("button") ?? same).focus();
  }

  row(told) {
    const time = new Date(told.time);
    const who = [told.person === "person" ? null : told.person,
      time.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" })];
    const label = `#${told.number}`;
    return el("li", { id: `entry-${told.number}`, tabindex: "-1", class: `entry${told.undone ? " undone" : ""}` },
      el("div", { class: "thumbs" }, ...told.images.map((image) => el("img", {
        src: imageUrl(image), alt: "", loading: "lazy" }))),
      el("div", {}, el("p", { class: "what" }, words(told)),
        el("p", { class: "who" }, `${label} · ${who.filter(Boolean).join(" · ")}`)),
      told.can_undo ? el("button", { type: "button", "aria-label": `Take back ${label}`,
        onclick: () => this.undo(told.number) }, "Take back") : el("span"));
  }

  async undo(number) {
    if (this.app.view.parts.length) { // its images would be taken from the screen
      toast("First finish the set on the screen, or take its parts back.");
      return;
    }
    const found = await post("undo", { of: number });
    if (found.ok) {
      toast("Taken back.");
      this.app.view.answered = true;
      this.app.take(found.state);
      this.load();
    } else toast(found.error);
  }
}

function words(told) {
  const count = ([name, number]) => `${number} × ${name}`;
  const marks = Object.entries(told.marks).map(([mark, number]) => [MARKS[mark], number]);
  const names = [...Object.entries(told.labels), ...marks].map(count).join(", ");
  const texts = {
    folder: () => `${plural(told.count, "image")} with labels of the folder`,
    answer: () => names,
    correct: () => `Corrected: ${names}`,
    split: () => `A class of its own: ${names}`,
    rename: () => `Renamed: ${told.name} is now ${told.to}`,
    merge: () => `Merged: ${told.name} is now ${told.into}`,
    undo: () => `Took back #${told.of}`,
    goal: () => (told.goal ? `Goal: ${plural(told.goal, "image")}` : "No goal"),
  };
  return (texts[told.kind] ?? (() => told.kind))() + (told.undone ? " (taken back)" : "");
}
