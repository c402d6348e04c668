// The page: what is shown of the state that the server tells.
import { person } from "./api.js";
import { ClassesView } from "./classes.js";
import { $, announce, ask, banner, el, plural } from "./dom.js";
import { HistoryView } from "./history.js";
import { ProgressView } from "./progress.js";
import { askState, SetView } from "./set.js";

const OPEN = 1200;
const EMPTY = 400;
const HIDDEN = 8000;
const KEYS = [
  ["letters", "the name of the class; ↓ and → take a known one"],
  ["Enter", "gives the name to all ticked images; with no name, puts the others back"],
  [",", "skip: they come again when all others have"],
  [".", "not sure: the same, and the records tell"],
  ["-", "cannot be named: never shown again"],
  ["Ctrl Z", "takes back the last part, then the last answers"],
  ["↓ or Tab", "to the images"],
  ["arrows", "from image to image"],
  ["Space", "ticks and unticks an image"],
  ["Ctrl A", "ticks all, or none"],
  ["+", "enlarges an image (so does a double click)"],
  ["Escape", "back to the name; closes what is open"],
  ["?", "this list"],
];

class App {
  constructor() {
    this.state = null;
    this.turn = 0;
    this.guesses = localStorage.getItem("guesses") === "1";
    this.view = new SetView(this);
    this.views = {
      classes: new ClassesView(this, $("view-classes")),
      history: new HistoryView(this, $("view-history")),
      progress: new ProgressView(this, $("view-progress")),
    };
    $("guesses").checked = this.guesses;
    $("guesses").addEventListener("change", () => this.showGuesses($("guesses").checked));
    $("help").addEventListener("click", () => this.showHelp());
    $("person").addEventListener("click", () => this.askPerson());
    window.addEventListener("hashchange", () => this.route());
    window.addEventListener("beforeunload", (event) => {
      if (this.view.hasUnsent) event.preventDefault(); // the browser asks whether to leave
    });
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
    document.addEventListener("keydown", (event) => {
      const typing = event.target.matches("input, select, textarea");
      if (typing || event.defaultPrevented) return;
      const isUndo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
      if (event.key === "?") this.showHelp();
      else if (isUndo && this.current === "set") this.view.undo();
      else return;
      event.preventDefault();
    });
    this.tellPerson();
    this.route();
    this.poll();
  }

  route() {
    const name = location.hash.slice(1) in this.views ? location.hash.slice(1) : "set";
    for (const link of document.querySelectorAll("#tabs a")) {
      const current = link.hash === `#${name}`;
      if (current) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    for (const other of ["set", ...Object.keys(this.views)]) {
      $(`view-${other}`).hidden = other !== name;
    }
    this.current = name;
    if (name === "set") $("name").focus({ preventScroll: true });
    else this.views[name].open();
  }

  async poll() {
    try {
      await this.refresh();
    } finally { // whatever went wrong, it goes on
      const open = this.view.set ? OPEN : EMPTY;
      setTimeout(() => this.poll(), document.hidden ? HIDDEN : open);
    }
  }

  async refresh() {
    if (this.view.busy) return;
    const { turn } = this;
    const found = await askState(this);
    // A reply that was long on its way is older than what is shown.
    if (this.view.busy || turn !== this.turn) return;
    if (found.ok) this.take(found);
    else if (found.status === 403) {
      banner("This page is not let in any more: open the address that was printed in the terminal.");
    } else this.tellStatus(found.error, "broken");
  }

  /** Shows a state. */
  take(state) {
    const before = this.state;
    this.state = state;
    this.turn += 1;
    this.view.show(state);
    this.tellWorker(state.worker);
    this.tellEmpty(state);
    this.tellSummary(state);
    if (before?.rev !== state.rev || this.current === "progress") {
      this.views[this.current]?.update(state);
    }
  }

  tellStatus(text, kind) {
    $("status").className = `status ${kind}`;
    if ($("status").textContent !== text) $("status").textContent = text;
  }

  tellWorker(worker) {
    const behind = worker.behind > 1 ? `, ${plural(worker.behind, "entry", "entries")} to go` : "";
    if (worker.problem) {
      this.tellStatus(worker.phase, "broken");
      this.problem = `The network's process ended: ${worker.problem}. It is started again; what you `
        + "say is saved all the same.";
      banner(this.problem, true);
      return;
    }
    if (this.problem && $("banner").textContent === this.problem) banner("");
    this.problem = "";
    if (worker.phase === "ready") this.tellStatus("up to date", "ready");
    else this.tellStatus(`${worker.phase}${counted(worker)}${behind}`, "works");
  }

  tellEmpty({ set, worker, exhausted, counts, can_undo: canUndo }) {
    if (set) {
      this.empty = this.told = "";
      return;
    }
    const all = counts.images > 0 && counts.settled === counts.images;
    const large = all ? "All images are answered." : `${capital(worker.phase)}${counted(worker)} …`;
    const small = all || exhausted
      ? "Export your labels under Progress. Whatever was said can still be changed under Classes."
      : `The ${counts.answered ? "next" : "first"} set is shown as soon as it is chosen. You can leave this page open.`;
    const waits = exhausted && !all && worker.phase === "ready";
    const title = waits ? "The last images are on other screens." : large;
    const told = JSON.stringify([title, small, worker.total, worker.done, canUndo]);
    if (told === this.empty) return; // what has the focus keeps it
    this.empty = told;
    // Steps on the way are shown, not told: screen readers would say each of them.
    const kind = all ? "all" : waits ? "waits" : "soon";
    if (kind !== this.told) announce(title);
    this.told = kind;
    const bar = worker.total
      ? [el("progress", { max: worker.total, value: worker.done, "aria-label": worker.phase })] : [];
    $("empty").replaceChildren(
      el("p", { class: "large" }, title), ...bar,
      el("p", {}, waits ? "They come here when those have said nothing for five minutes." : small),
      canUndo ? el("button", { type: "button", onclick: () => this.view.undo() },
        "Undo ", el("kbd", {}, "Ctrl Z")) : "",
    );
  }

  tellSummary({ counts, classes, goal, seconds }) {
    const most = goal ?? counts.images;
    $("summary").hidden = !counts.images; // the folder is being read
    $("summary").replaceChildren(
      el("p", {}, el("b", {}, counts.answered.toLocaleString("en")),
        goal ? ` of your goal of ${plural(goal, "image")}` : ` of ${plural(counts.images, "image")}`),
      el("progress", {
        max: Math.max(1, most), value: Math.min(most, counts.answered), "aria-label": "answered",
      }),
      el("p", {}, el("b", {}, String(classes.length)), classes.length === 1 ? " class" : " classes",
        seconds === null ? "" : ` · ${seconds} s a set`),
    );
  }

  async showGuesses(is) {
    this.guesses = is;
    localStorage.setItem("guesses", is ? "1" : "0");
    const found = await askState(this);
    if (found.ok && found.set && found.set.query === this.view.set?.query) {
      this.view.redraw(found.set);
    }
  }

  showHelp() {
    const list = el("dl", { class: "keys" });
    for (const [key, text] of KEYS) list.append(el("dt", {}, el("kbd", {}, key)), el("dd", {}, text));
    return ask("Keys", [list, el("p", { class: "note" },
      "The signs , . - ? + work in the grid, and in the name while it is empty.")],
    [["Close", null, true]], { onkey: (event, close) => event.key === "?" && (close(null), true) });
  }

  tellPerson() {
    $("person").textContent = person.get() || "Who are you?";
  }

  async askPerson() {
    const field = el("input", { type: "text", id: "person-name", dir: "auto", maxlength: "80",
      value: person.get() });
    const name = await ask("Who are you?", [
      el("label", { for: "person-name" }, "Your name goes beside your answers in the records"), field,
    ], [["Cancel", null], ["Save", () => field.value.trim(), true]], {
      onkey: (event, close) => event.key === "Enter" && event.target === field
        && (close(field.value.trim()), true),
    });
    if (name !== null) person.set(name);
    this.tellPerson();
  }
}

const counted = (worker) => (worker.total
  ? `, ${worker.done.toLocaleString("en")} of ${worker.total.toLocaleString("en")}` : "");
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

window.app = new App();
