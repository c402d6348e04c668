// The set on the screen: parts of it get names one after the other, then all is sent at once.
import { get, imageUrl, newKey, post } from "./api.js";
import { $, announce, askNear, banner, nameOf, plural, toast } from "./dom.js";
import { Names } from "./names.js";
import { Tiles } from "./tiles.js";

const MARK_KEYS = { ",": "skip", ".": "unsure", "-": "reject" };

export class SetView {
  /** @param {object} app - Has `state`, `take(state)`, `showHelp()` and `guesses`. */
  constructor(app) {
    this.app = app;
    this.set = null;
    this.parts = [];
    this.unsent = null;
    this.busy = false;
    this.names = new Names($("name"), $("names"), () => [
      ...(app.state?.classes ?? []), ...(app.state?.known ?? []).map((name) => [name, 0]),
    ]);
    this.tiles = new Tiles($("grid"), {
      onchange: () => this.hint(), onkey: (event) => this.gridKey(event),
    });
    $("answer").addEventListener("submit", (event) => { event.preventDefault(); this.enter(); });
    $("name").addEventListener("keydown", (event) => this.nameKey(event));
    for (const button of document.querySelectorAll("[data-mark]")) {
      button.addEventListener("click", () => this.give(button.dataset.mark));
    }
    $("undo").addEventListener("click", () => this.undo());
    $("enlarge").addEventListener("click", () => this.tiles.enlarge());
  }

  /** Whether something was said that is lost if the page is closed. */
  get hasUnsent() { return Boolean(this.parts.length || this.unsent || this.busy); }

  /** Shows the set of a state, unless it is on the screen already. */
  show(state) {
    const { set } = state;
    if (!set && this.set && state.starting) return; // it is open as soon as the server knows it
    const inside = $("view-set").contains(document.activeElement);
    if (!set && this.set && inside) $("main").focus({ preventScroll: true });
    $("grid").hidden = $("answer").inert = !set;
    $("empty").hidden = Boolean(set);
    if (!set) {
      this.set = this.unsent = null;
      this.parts = [];
      this.tiles.show([]);
      this.hint();
    } else if (set.query !== this.set?.query) {
      if (this.set && !this.busy && !this.answered) {
        toast("That set was answered in another window, or is not open any more.");
      }
      this.begin(set);
    }
    if (state.next) this.fetchAhead(state.next);
  }

  begin(set) {
    this.set = set;
    this.parts = [];
    this.unsent = null;
    this.answered = false;
    this.since = performance.now();
    this.key = newKey();
    this.seen = this.app.state.rev;
    this.tiles.show(set.images, set.guesses);
    this.names.clear();
    $("set-title").textContent = set.audit ? "Audit: name each image" : "What are these?";
    this.hint();
    if (!location.hash || location.hash === "#set") $("name").focus({ preventScroll: true });
    announce(`A new set of ${plural(set.images.length, "image")}.`);
  }

  /** Redraws the set with guesses or without. */
  redraw(set) {
    const ticked = new Set(this.tiles.ticked());
    this.tiles.show(set.images, set.guesses);
    this.paint();
    this.open().forEach((i) => this.tiles.tick(i, ticked.has(i)));
    this.hint();
  }

  fetchAhead(next) {
    if (this.ahead === next.query) return;
    this.ahead = next.query;
    this.kept = next.images.map((image) => Object.assign(new Image(), { src: imageUrl(image) }));
  }

  open() {
    const given = new Set(this.parts.flatMap(({ images }) => images));
    return this.tiles.images.flatMap((_, i) => (given.has(i) ? [] : [i]));
  }

  paint() {
    const labels = new Map();
    for (const { images, label } of this.parts) images.forEach((i) => labels.set(i, nameOf(label)));
    this.tiles.images.forEach((_, i) => this.tiles.label(i, labels.get(i) ?? null));
    this.open().forEach((i) => this.tiles.tick(i, true));
    this.hint();
  }

  hint(text = "") {
    const box = $("hint");
    const left = this.open().length;
    const ticked = this.set ? this.tiles.ticked().length : 0;
    const all = this.tiles.images.length;
    box.classList.toggle("asks", this.parts.length > 0 || Boolean(text));
    if (text) {
      box.textContent = text;
      announce(text);
    }
    else if (!this.set) box.textContent = "";
    else if (this.unsent) box.textContent = "Not saved yet. Enter sends it again.";
    else if (this.parts.length) {
      box.textContent = `${plural(left, "image is", "images are")} left. Name ${
        left === 1 ? "it" : "them"}, or press Enter to put ${left === 1 ? "it" : "them"} back.`;
    } else if (ticked < all) box.textContent = `${ticked} of ${all} are ticked: they get the name.`;
    else if (this.set?.audit) {
      box.textContent = "Untick what is of another class, name the rest, and go on. Audit images "
        + "are never learnt: they measure the network.";
    } else box.textContent = `All ${all} get the name. Untick what does not belong.`;
  }

  /** Enter: the ticked images get the name; without one, what is left goes back to the pool. */
  enter() {
    if (this.unsent) this.send(this.unsent);
    else if (this.names.value) this.give({ class: this.names.value });
    else if (this.parts.length) this.finish();
    else this.hint("Type a name first, or press , to skip the set.");
  }

  give(label) {
    if (!this.set || this.busy || this.unsent) return;
    const images = this.tiles.ticked();
    if (!images.length) {
      this.hint("No image is ticked: press Space on one.");
      return;
    }
    this.parts.push({ images, label });
    this.names.clear();
    this.paint();
    const left = this.open().length;
    if (!left) this.finish();
    else {
      $("name").focus({ preventScroll: true });
      announce($("hint").textContent);
    }
  }

  finish() {
    const labels = this.tiles.images.map(() => "left");
    for (const { images, label } of this.parts) images.forEach((i) => { labels[i] = label; });
    const seconds = (performance.now() - this.since) / 1000;
    this.send({ query: this.set.query, labels, seconds, key: this.key, confirmed: [] });
  }

  async send(told) {
    if (this.busy) return;
    this.busy = true;
    const query = told.query;
    const found = await post("answer", {
      ...told, seen: this.seen, guesses: this.app.guesses || "",
    }, () => banner("Not saved yet: the server cannot be reached or is starting. It is tried again; "
      + "leave this page open.", true));
    this.busy = false;
    if (found.ok) {
      banner("");
      this.answered = true;
      this.unsent = null;
      this.app.take(found.state);
      if (this.set?.query === query) this.app.refresh();
    } else if (found.near) this.askNear(told, found.near);
    else if (found.already || found.closed) {
      this.answered = true;
      banner("");
      toast(found.already ? `That set was answered already${by(found.person)}. Nothing was changed.`
        : "That set is not open any more. Nothing was saved.");
      await this.app.refresh();
    } else if (found.status === 507 || found.status >= 500) {
      this.unsent = told;
      banner(`This answer was NOT saved: ${found.error}. Nothing is lost on this page: make room on `
        + "the disk, then press Enter again.");
      this.hint();
    } else {
      this.parts.pop();
      this.paint();
      this.hint(found.error);
    }
  }

  async askNear(told, { name, known }) {
    const choice = await askNear({ name, known });
    if (choice === null) {
      this.parts = this.parts.filter(({ label }) => label.class !== name);
      this.paint();
      $("name").value = name;
      $("name").focus();
    } else if (choice === "new") {
      this.send({ ...told, confirmed: [...told.confirmed, name] });
    } else {
      const labels = told.labels.map((label) => (label.class === name ? { class: known } : label));
      this.send({ ...told, labels });
    }
  }

  /** Takes back the last part of this set, or else the last answer. */
  async undo() {
    if (this.busy) return;
    if (this.unsent || this.parts.length) {
      this.unsent = null;
      this.parts.pop();
      banner("");
      this.paint();
      return;
    }
    this.busy = true;
    const found = await post("undo", { guesses: this.app.guesses || "" });
    this.busy = false;
    if (found.ok) {
      this.answered = true;
      toast("Taken back.");
      this.app.take(found.state);
    } else toast(found.error);
  }

  /** Keys that mean the same in the field, where it is empty, and in the grid. */
  commonKey(event) {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") this.undo();
    else if (event.ctrlKey || event.metaKey || event.altKey) return false;
    else if (event.key in MARK_KEYS) event.repeat || this.give(MARK_KEYS[event.key]);
    else if (event.key === "?") this.app.showHelp();
    else if (event.key === "+") this.tiles.enlarge();
    else return false;
    return true;
  }

  nameKey(event) {
    if (event.isComposing) return;
    // A key that is held down says a thing once.
    let taken = (event.repeat && event.key === "Enter") || this.names.key(event);
    if (!taken && !this.names.field.value) {
      taken = this.commonKey(event);
      if (!taken && event.key === "ArrowDown") {
        this.tiles.focus();
        taken = true;
      }
    }
    if (taken) event.preventDefault();
  }

  gridKey(event) {
    if (event.key === "leave" || event.key === "Escape") $("name").focus();
    else if (event.key === "Enter") event.repeat || this.enter();
    else if (this.commonKey(event)) return true;
    else if (event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey) {
      $("name").focus(); // and the letter goes there
      return false;
    } else return false;
    return true;
  }
}

const by = (name) => (name && name !== "person" ? ` by ${name}` : "");

export const askState = (app) =>
  get("state", { showing: app.view.set?.query ?? "", guesses: app.guesses ? "1" : "" });
