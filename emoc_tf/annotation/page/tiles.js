// A grid of images that are ticked or not: arrows move, space toggles.
import { ask, el } from "./dom.js";
import { imageUrl } from "./api.js";

const TINY = 64;

/** Shows one image large; arrows go on to the others. */
export function enlarge(images, start, words) {
  let at = start;
  const image = el("img", { class: "enlarged", alt: "" });
  const text = el("p", { class: "note" });
  const show = (step) => {
    at = (at + step + images.length) % images.length;
    image.onload = () => image.classList.toggle("tiny", image.naturalWidth < TINY);
    image.src = imageUrl(images[at], "large");
    image.alt = words(at);
    text.textContent = `${words(at)}. Arrow keys show the others, Escape closes.`;
  };
  show(0);
  const onkey = (event, close) => {
    if (event.key === "ArrowRight" || event.key === "ArrowDown") show(1);
    else if (event.key === "ArrowLeft" || event.key === "ArrowUp") show(-1);
    else if (event.key === "+") close(null);
    else return false;
    return true;
  };
  return ask("Image", [image, text], [["Close", null, true]], { wide: true, onkey }).then(() => at);
}

export class Tiles {
  /**
   * @param {HTMLElement} box - Where the images go.
   * @param {object} options - `ticked`: how images begin; `lazy`: whether they are fetched when
   *   they are seen; `onchange`, `onkey`: called after a toggle and with keys that are not the
   *   grid's.
   */
  constructor(box, { ticked = true, lazy = false, onchange = () => {}, onkey = () => {} } = {}) {
    Object.assign(this, { box, begins: ticked, lazy, onchange, onkey });
    this.images = [];
    this.tiles = [];
    this.at = 0;
    box.addEventListener("keydown", (event) => this.key(event));
  }

  show(images, guesses = null) {
    this.images = images;
    this.at = 0;
    this.labels = images.map(() => null);
    this.tiles = images.map((image, i) => this.tile(image, i, guesses ? guesses[i] : null));
    this.box.dataset.columns = Math.max(3, Math.min(5, Math.ceil(Math.sqrt(images.length))));
    this.box.replaceChildren(...this.tiles);
    this.tiles.forEach((_, i) => this.describe(i));
  }

  tile(image, i, guess) {
    const src = imageUrl(image);
    const loading = this.lazy ? "lazy" : "eager";
    const picture = el("img", { loading, src, alt: "", draggable: "false" });
    picture.onload = () => picture.classList.toggle("tiny", picture.naturalWidth < TINY);
    picture.onerror = () => this.bring(picture, src, i);
    const tile = el("button", {
      type: "button", class: "tile", tabindex: i ? "-1" : "0", "aria-pressed": String(this.begins),
      onclick: () => { this.move(i); this.toggle(i); },
      ondblclick: () => this.enlarge(i),
    }, picture, el("span", { class: "tick", "aria-hidden": "true" }));
    if (guess) {
      tile.append(el("span", { class: "chip guess" }, `${guess[0]} ${Math.round(100 * guess[1])}%`));
      tile.dataset.guess = `the network guesses ${guess[0]}, ${Math.round(100 * guess[1])} percent`;
    }
    return tile;
  }

  /** Asks again for an image that did not come, until it does or its file is known to be gone. */
  async bring(picture, src, i) {
    const note = el("span", { class: "gone" }, "not loaded yet");
    picture.replaceWith(note);
    for (let wait = 500; note.isConnected; wait = Math.min(8000, 2 * wait)) {
      const status = await fetch(src).then((reply) => reply.status, () => 0);
      if (!note.isConnected) return;
      if (status === 200) {
        note.replaceWith(picture);
        picture.src = src;
      } else if (status === 404 || status === 410) {
        const what = status === 404 ? "is gone" : "was changed";
        note.textContent = `file ${what}`;
        this.tiles[i].dataset.gone = `its file ${what}`;
        this.describe(i);
        return;
      }
      await new Promise((resolve) => { setTimeout(resolve, wait); });
    }
  }

  isTicked(i) { return this.tiles[i].getAttribute("aria-pressed") === "true"; }

  ticked() { return this.tiles.flatMap((_, i) => (this.isTicked(i) ? [i] : [])); }

  describe(i) {
    const tile = this.tiles[i];
    const words = [`Image ${i + 1} of ${this.tiles.length}`];
    if (this.labels[i]) words.push(this.labels[i]);
    if (tile.dataset.gone) words.push(tile.dataset.gone);
    if (tile.dataset.guess) words.push(tile.dataset.guess);
    tile.setAttribute("aria-label", words.join(", "));
  }

  tick(i, value) {
    this.tiles[i].setAttribute("aria-pressed", String(value));
  }

  toggle(i) {
    if (this.labels[i] === null) {
      this.tick(i, !this.isTicked(i));
      this.onchange();
    }
  }

  /** Writes under an image what it was given; null takes that away. */
  label(i, text) {
    const tile = this.tiles[i];
    this.labels[i] = text;
    tile.querySelector(".chip:not(.guess)")?.remove();
    tile.classList.toggle("done", text !== null);
    if (text !== null) {
      tile.append(el("span", { class: "chip" }, text));
      this.tick(i, false);
    }
    this.describe(i);
  }

  move(i) {
    this.tiles[this.at]?.setAttribute("tabindex", "-1");
    this.at = Math.max(0, Math.min(this.tiles.length - 1, i));
    this.tiles[this.at]?.setAttribute("tabindex", "0");
  }

  focus() { this.tiles[this.at]?.focus(); }

  columns() {
    const top = this.tiles[0]?.offsetTop;
    const count = this.tiles.findIndex((tile) => tile.offsetTop !== top);
    return count < 0 ? this.tiles.length : count;
  }

  async enlarge(i = this.at) {
    if (!this.images.length) return;
    const at = await enlarge(this.images, i, (k) => this.tiles[k].getAttribute("aria-label"));
    this.move(at);
  }

  key(event) {
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns(), ArrowDown: this.columns(),
      Home: -this.at, End: this.tiles.length - 1 - this.at,
    };
    const command = event.ctrlKey || event.metaKey;
    if (event.key in steps && !command && !event.altKey) {
      const next = this.at + steps[event.key];
      if (event.key === "ArrowUp" && next < 0) this.onkey({ key: "leave" });
      else {
        if (next >= 0 && next < this.tiles.length) this.move(next);
        this.focus();
      }
    } else if (event.key === " ") {
      this.toggle(this.at);
    } else if (command && event.key.toLowerCase() === "a") {
      const all = this.tiles.every((_, i) => this.labels[i] !== null || this.isTicked(i));
      this.tiles.forEach((_, i) => this.labels[i] === null && this.tick(i, !all));
      this.onchange();
    } else if (!this.onkey(event)) {
      return;
    }
    event.preventDefault();
  }
}
