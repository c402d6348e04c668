// The view by class: images whose class is wrong, names, and classes that are one or two.
import { get, post } from "./api.js";
import { ask, askNear, el, plural, toast } from "./dom.js";
import { tidy } from "./names.js";
import { Tiles } from "./tiles.js";

const ASIDE = [["mark:reject", "Cannot be named"], ["mark:unsure", "Not sure"],
  ["mark:skip", "Skipped"], ["mark:left", "Put back"]];

const asideOf = (counts) => [counts.rejected, counts.unsure, counts.skipped - counts.left, counts.left];

export class ClassesView {
  constructor(app, box) {
    Object.assign(this, { app, box, name: null, start: 0, busy: false });
    this.list = el("ul", { class: "list class-list", "aria-label": "Classes" });
    this.side = el("div");
    this.grid = el("div", { class: "grid members", role: "group", "aria-label": "Images of the class" });
    this.tiles = new Tiles(this.grid, {
      ticked: false, lazy: true, onchange: () => this.tellTicked(),
      onkey: (event) => event.key === "+" && (this.tiles.enlarge(), true),
    });
    box.append(el("h2", { id: "classes-title" }, "Classes"),
      el("div", { class: "classes-layout" }, this.list, this.side));
  }

  open() { this.update(this.app.state); }

  update(state) {
    if (!state) return;
    const names = state.classes.map(([name]) => name);
    if (this.name === null || (!this.name.startsWith("mark:") && !names.includes(this.name))) {
      this.name = names[0] ?? "mark:reject";
      this.start = 0;
    }
    const row = (key, text, count, extra) => el("li", { class: extra }, el("button", {
      type: "button", "aria-current": key === this.name ? "true" : null,
      onclick: () => { this.name = key; this.start = 0; this.update(this.app.state); },
    }, text, el("span", { class: "count" }, count === null ? "" : count.toLocaleString("en"))));
    const focused = [...this.list.querySelectorAll("button")].indexOf(document.activeElement);
    this.list.replaceChildren(
      ...state.classes.map(([name, count]) => row(name, name, count)),
      ...ASIDE.map(([key, text], i) => row(key, text, asideOf(state.counts)[i], i ? null : "apart")),
    );
    if (focused >= 0) this.list.querySelectorAll("button")[focused]?.focus();
    this.load();
  }

  async load() {
    const found = await get("class", { name: this.name, start: String(this.start) });
    if (!found.ok || found.name !== this.name || found.start !== this.start) return;
    const shown = JSON.stringify(found);
    if (shown === this.shown) return;
    const place = `${found.start} ${found.name}`;
    // What somebody has ticked is not taken from under their hands.
    if (this.shown && place === this.place && this.tiles.ticked().length) return;
    this.shown = shown;
    this.place = place;
    const inside = this.side.contains(document.activeElement);
    const isMark = this.name.startsWith("mark:");
    const title = isMark ? Object.fromEntries(ASIDE)[this.name] : this.name;
    const parts = [el("div", { class: "heading" },
      el("h3", { class: "class-name" }, `${title} · ${plural(found.count, "image")}`),
      ...(isMark ? [] : this.classTools()))];
    if (found.count) parts.push(this.imageTools(isMark));
    parts.push(this.grid);
    const last = found.start + found.images.length;
    if (found.count > found.images.length) {
      parts.push(el("div", { class: "tools" },
        el("button", { type: "button", disabled: !found.start,
          onclick: () => this.turn(-1) }, "Before"),
        el("span", {}, `${found.start + 1}–${last} of ${found.count}`),
        el("button", { type: "button", disabled: last >= found.count,
          onclick: () => this.turn(1) }, "After")));
    }
    this.side.replaceChildren(...parts);
    this.tiles.show(found.images);
    this.tellTicked();
    if (inside) this.tiles.focus();
  }

  turn(by) {
    this.start = Math.max(0, this.start + by * 200);
    this.load();
  }

  imageTools(isMark) {
    this.field = el("input", { type: "text", id: "new-name", dir: "auto", maxlength: "80", list: "all-names",
      autocomplete: "off" });
    const options = this.app.state.classes.map(([name]) => el("option", { value: name }));
    this.count = el("span", { id: "ticked", role: "status" });
    return el("form", { class: "tools", "aria-label": "Correct images",
      onsubmit: (event) => { event.preventDefault(); this.rename(); } },
    el("div", { class: "field" },
      el("label", { for: "new-name" }, isMark ? "Name of the ticked" : "Right name of the ticked"),
      this.field, el("datalist", { id: "all-names" }, ...options)),
    el("button", { type: "submit" }, "Give the name"),
    el("button", { type: "button", onclick: () => this.correct("none") }, "Back to the pool"),
    isMark && this.name === "mark:reject" ? null
      : el("button", { type: "button", onclick: () => this.correct("reject") }, "Cannot be named"),
    this.count);
  }

  classTools() {
    const others = this.app.state.classes.map(([name]) => name).filter((n) => n !== this.name);
    const rename = el("button", { type: "button", onclick: () => this.askName() }, "Rename…");
    const merge = el("button", { type: "button", onclick: () => this.askMerge(others) },
      "Merge into another…");
    return others.length ? [rename, merge] : [rename];
  }

  tellTicked() {
    if (this.count) this.count.textContent = `${this.tiles.ticked().length} ticked`;
  }

  rename() {
    const name = tidy(this.field.value);
    if (name) this.correct({ class: name });
    else this.field.focus();
  }

  async correct(label, confirmed = []) {
    if (this.busy) return; // the second Enter of two
    const images = this.tiles.ticked().map((i) => this.tiles.images[i][0]);
    if (!images.length) {
      toast("No image is ticked.");
      return;
    }
    this.busy = true;
    const found = await post("correct", { images, label, confirmed });
    this.busy = false;
    if (found.near) {
      const answer = await askNear(found.near);
      if (answer === "known") this.correct({ class: found.near.known }, confirmed);
      else if (answer === "new") this.correct(label, [...confirmed, found.near.name]);
      return;
    }
    const left = found.left?.length ?? 0;
    this.told(found, left ? `${plural(images.length - left, "image")} corrected. ${
      plural(left, "is", "are")} left as before: on a screen just now, to be named there.`
      : "Corrected.");
    if (!left) return;
    await this.load();
    this.tiles.images.forEach(([i], at) => found.left.includes(i) && this.tiles.tick(at, true));
    this.tellTicked();
  }

  async askName() {
    const field = el("input", { type: "text", id: "class-name", dir: "auto", maxlength: "80", value: this.name });
    const to = await ask("Rename the class", [
      el("label", { for: "class-name" }, "New name"), field,
    ], [["Cancel", null], ["Rename", () => field.value, true]], {
      onkey: (event, close) => event.key === "Enter" && event.target === field
        && (close(field.value), true),
    });
    if (to === null) return;
    const found = await post("class", { name: this.name, to });
    if (found.ok) this.name = tidy(to);
    this.told(found, "Renamed.");
  }

  async askMerge(others) {
    const select = el("select", { id: "into" }, ...others.map((name) => el("option", {}, name)));
    const into = await ask("Merge the class", [
      el("label", { for: "into" }, `All images of ${this.name} become images of`), select,
    ], [["Cancel", null], ["Merge", () => select.value, true]]);
    if (into === null) return;
    const found = await post("class", { name: this.name, into });
    if (found.ok) this.name = into;
    this.told(found, "Merged.");
  }

  told(found, text) {
    toast(found.ok ? `${text} It can be taken back under History.` : found.error);
    if (found.ok) {
      this.shown = "";
      this.app.take(found.state);
      this.update(found.state);
    }
  }
}
