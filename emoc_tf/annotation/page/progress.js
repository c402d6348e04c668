// How far it is, how good the network is, and what is written for other tools.
import { post } from "./api.js";
import { el, plural, toast } from "./dom.js";

const FORMATS = [
  ["csv", "CSV"], ["jsonl", "JSON Lines"], ["folders", "Class folders"],
  ["labelstudio", "Label Studio"], ["fiftyone", "FiftyOne"], ["imagefolder", "Hugging Face"],
  ["predictions", "Predictions of the rest"], ["model", "Model (.keras)"],
];
// Milliseconds in which a button that is pressed again was not meant twice.
const TWICE = 1000;
const TITLES = Object.fromEntries(FORMATS);

export class ProgressView {
  constructor(app, box) {
    this.app = app;
    this.rows = new Map();
    this.pressed = {};
    this.cards = el("div", { class: "cards" });
    this.charts = el("div", { class: "charts" });
    this.done = el("ul", { class: "done-list", "aria-live": "polite" });
    this.notes = el("div", { class: "card notes", hidden: true });
    this.goal = el("input", { type: "number", id: "goal", min: "0", step: "1" });
    const buttons = FORMATS.map(([format, text]) => el("button", {
      type: "button", onclick: () => this.order(format) }, text));
    box.append(
      el("h2", { id: "progress-title" }, "Progress"), this.cards,
      el("form", { class: "goal", onsubmit: (event) => { event.preventDefault(); this.setGoal(); } },
        el("div", {}, el("label", { for: "goal" }, "Goal: images answered"), this.goal),
        el("button", { type: "submit" }, "Set the goal")),
      this.charts,
      el("div", { class: "card" }, el("h3", {}, "Export"),
        el("div", { class: "export-buttons" }, ...buttons), this.done),
      this.notes);
  }

  open() {
    const { state } = this.app;
    if (state) this.update(state);
  }

  update(state) {
    const { counts, classes, outcomes, seconds, goal } = state;
    const last = outcomes.at(-1) ?? {};
    if (goal !== this.told) {
      this.told = goal;
      this.goal.value = goal ?? "";
    }
    const left = goal === null ? counts.images - counts.settled : Math.max(0, goal - counts.answered);
    const card = (value, label) => el("div", { class: "card" },
      el("p", { class: "value" }, String(value)), el("p", { class: "label" }, label));
    this.cards.replaceChildren(
      card(counts.answered.toLocaleString("en"), "images answered"),
      card(left.toLocaleString("en"), goal === null ? "images left" : "left to your goal"),
      card(classes.length, classes.length === 1 ? "class" : "classes"),
      card(seconds === null ? "–" : `${seconds} s`, "a set, median"),
      card(counts.rejected.toLocaleString("en"), "cannot be named"),
      card(counts.unsure.toLocaleString("en"), "not sure"),
      card(counts.skipped.toLocaleString("en"), "skipped or put back"),
    );
    const key = JSON.stringify(outcomes);
    if (key !== this.drawn) {
      this.drawn = key;
      this.charts.replaceChildren(...charts(outcomes));
    }
    const notes = [...state.worker.warnings, ...(last.stopped ? [`You could stop: ${last.stopped}`] : [])];
    this.list(state.exports);
    const text = JSON.stringify(notes);
    if (text !== this.listed) {
      this.listed = text;
      this.notes.hidden = !notes.length;
      this.notes.replaceChildren(el("h3", {}, "Notes"), ...notes.map((note) => el("p", {}, note)));
    }
  }

  /** Lists the exports; only what is new is told to screen readers. */
  list(exports) {
    for (const [job, row] of this.rows) {
      if (!exports.some((each) => each.job === job)) {
        row.remove();
        this.rows.delete(job);
      }
    }
    for (const each of exports) {
      const text = told(each);
      if (!this.rows.has(each.job)) {
        this.rows.set(each.job, el("li", {}, text));
        this.done.prepend(this.rows.get(each.job));
      } else if (this.rows.get(each.job).textContent !== text) {
        this.rows.get(each.job).textContent = text;
      }
    }
  }

  async order(format) {
    const [now, before] = [performance.now(), this.pressed[format] ?? -TWICE];
    this.pressed[format] = now;
    if (now - before < TWICE) return;
    const found = await post("export", { format });
    if (found.ok) this.app.take(found.state);
    else toast(found.error);
  }

  async setGoal() {
    const found = await post("goal", { goal: Number.parseInt(this.goal.value || "0", 10) });
    if (found.ok) this.app.take(found.state);
    toast(found.ok ? "The goal is set." : found.error);
  }
}

function told(job) {
  const title = TITLES[job.format];
  if (job.state === "waits") return `${title}: comes when all answers are learnt …`;
  if (job.state === "failed") return `${title}: not written. ${job.text}`;
  const what = job.format === "model" ? plural(job.count, "class", "classes")
    : plural(job.count, "image");
  return `${title}: ${what}, ${job.path}`;
}

function charts(outcomes) {
  const found = [];
  const points = (name) => outcomes.filter((o) => o[name] !== null && o[name] !== undefined)
    .map((o) => [o.step, o[name]]);
  const answers = points("answer_accuracy");
  found.push(chart("Answers that the network had right before", answers, {
    note: "Chosen to teach it: often the hard ones.", percent: true }));
  const audit = outcomes.filter((o) => o.audit_accuracy !== null && o.audit_accuracy !== undefined);
  if (audit.length) {
    found.push(chart("Audit: share of all images that it has right", points("audit_accuracy"), {
      band: audit.map((o) => [o.step, o.audit_low, o.audit_high]), percent: true,
      note: `With its 95% interval, now ${share(audit.at(-1).audit_low)} to ${
        share(audit.at(-1).audit_high)}.` }));
  }
  found.push(chart("Images with a class", points("labelled"), {
    note: "With those that had one at the start." }));
  found.push(chart("Classes found", points("discovered_classes"), {
    note: "Beside those that were there at the start." }));
  return found;
}

const share = (value) => `${Math.round(100 * value)}%`;
const W = 560;
const H = 220;
const LEFT = 46;
const BOTTOM = 30;
const TOP = 12;

function chart(title, points, { band = null, percent = false, note = "" }) {
  const box = el("div", { class: "card chart" }, el("h3", {}, title));
  if (points.length < 1) {
    box.append(el("p", { class: "note" }, "Nothing yet: it comes with the first answers."));
    return box;
  }
  const last = Math.max(1, ...points.map(([x]) => x));
  const top = percent ? 1 : Math.max(1, ...points.map(([, y]) => y));
  const x = (step) => LEFT + (W - LEFT - 12) * (step / last);
  const y = (value) => TOP + (H - TOP - BOTTOM) * (1 - value / top);
  const words = (value) => (percent ? share(value) : String(value));
  const newest = points.at(-1);
  const svg = el("svg", { viewBox: `0 0 ${W} ${H}`, role: "img",
    "aria-label": `${title}: ${words(newest[1])} after ${plural(newest[0], "set")}` });
  const ticks = percent ? [0, 0.5, 1] : [...new Set([0, Math.round(top / 2), top])];
  for (const value of ticks) {
    svg.append(el("line", { x1: LEFT, x2: W - 12, y1: y(value), y2: y(value) }),
      el("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, words(value)));
  }
  svg.append(el("text", { x: LEFT, y: H - 8 }, "0"),
    el("text", { x: W - 12, y: H - 8, "text-anchor": "end" }, plural(last, "set")));
  if (band) {
    const line = [...band.map(([s, low]) => [s, low]), ...[...band].reverse().map(([s, , high]) => [s, high])];
    svg.append(el("polygon", { class: "band", points: line.map(([s, v]) => `${x(s)},${y(v)}`).join(" ") }));
  }
  const path = points.map(([s, v], i) => `${i ? "L" : "M"}${x(s)} ${y(v)}`).join("");
  svg.append(el("path", { class: "curve", d: path }),
    el("circle", { class: "dot", cx: x(newest[0]), cy: y(newest[1]), r: 4.5 }));
  box.append(svg, el("p", { class: "note" }, note));
  return box;
}
