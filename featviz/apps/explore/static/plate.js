// One large image: seen forming, with its figures and what can be done with it.

import * as api from "./api.js";
import {copy} from "./copy.js";
import {curve} from "./curve.js";
import {ICONS, announce, icon, make, short} from "./dom.js";

const PAGE = /\.html$/; // of results that are pages instead of images

export class Plate {
  constructor(images, board) {
    Object.assign(this, {images, board, key: null, id: null, leave: null, info: null, asking: null, onFinal: null});
    this.img = make("img", {alt: "", width: "512", height: "512"});
    this.bar = make("div", {class: "progress", role: "progressbar", "aria-label": "Steps", "aria-valuemin": "0"}, make("span"));
    this.note = make("p", {class: "plate-note"});
    this.stop = make("button", {type: "button", class: "plain", hidden: true, onclick: () => this.halt()}, "Stop");
    this.figure = make("figure", {class: "plate", "data-state": "empty"},
      make("div", {class: "well"}, this.img, this.bar), make("figcaption", {}, this.note, this.stop));
    this.star = make("button", {type: "button", class: "star", "aria-pressed": "false", onclick: () => this.keep()}, icon(ICONS.star), make("span", {}, "Keep"));
    this.copies = [["python", "Python"], ["command", "Command"], ["recipe", "Recipe"]].map(([part, text]) =>
      make("button", {type: "button", "data-copy": part, "aria-label": `Copy ${text}`, onclick: event => this.copy(part, event.currentTarget)}, text));
    this.file = make("a", {class: "button", download: "", "aria-label": "Download the image"}, icon(ICONS.download), "PNG");
    this.actions = make("div", {class: "actions"}, this.star, this.file, make("span", {"aria-hidden": "true"}, "Copy"), ...this.copies);
    this.facts = make("dl", {class: "facts"});
    board.addEventListener("change", () => this.starred());
    this.reset();
  }

  reset() {
    this.leave?.();
    this.asking?.abort();
    Object.assign(this, {leave: null, id: null, info: null, asking: null});
    this.enable(false);
    this.file.removeAttribute("href");
    this.facts.replaceChildren();
    this.starred();
  }

  enable(on) {
    for (const button of [this.star, this.file, ...this.copies]) button.setAttribute("aria-disabled", !on);
  }

  /** Remove the image and give up its work. */
  clear() {
    this.reset();
    this.key = null;
    this.img.removeAttribute("src");
    this.write("empty", "");
  }

  /**
   * Show the image of a recipe.
   *
   * @param name What it shows, in words.
   * @param draft URL of a smaller image of the same, shown until there are previews.
   * @param soon Whether other images come first.
   */
  show(recipe, {name, draft = null, soon = false}) {
    this.actions.hidden = false;
    this.start(JSON.stringify(recipe), name, draft, listener => this.images.want(recipe, {live: true, soon}, listener));
  }

  /** Show the result of a call of its own; `post` takes the id of the stream. A `plain` one has no recipe. */
  run(key, post, {name, draft = null, plain = false}) {
    this.actions.hidden = plain;
    this.start(key, name, draft, listener => this.images.run(key, post, listener));
  }

  start(key, name, draft, ask) {
    this.reset();
    const again = key === this.key;
    Object.assign(this, {key, name, ask});
    if (draft) this.img.src = draft;
    else if (!again) this.img.removeAttribute("src");
    this.img.alt = `${name}, rendering`;
    this.write("waiting", "Queued");
    this.leave = ask(entry => key === this.key && this.update(entry));
  }

  update(entry) {
    const {state, done, steps, preview} = entry;
    if (preview) this.img.src = preview;
    if (state === "done") this.finish(entry);
    else if (state === "failed") this.write("failed", entry.error);
    else if (state === "stopped") this.write("stopped", "Stopped");
    else if (steps) this.write("running", `Step ${done} of ${steps}`, done / steps);
    else this.write("waiting", "Queued");
  }

  write(state, text, share = 0) {
    this.figure.dataset.state = state;
    this.note.textContent = text;
    this.stop.hidden = !["waiting", "running", "stopped"].includes(state);
    this.stop.textContent = state === "stopped" ? "Continue" : "Stop";
    this.bar.hidden = state !== "running";
    this.bar.setAttribute("aria-valuenow", Math.round(100 * share));
    this.bar.setAttribute("aria-valuemax", "100");
    this.bar.firstElementChild.style.transform = `scaleX(${share})`;
    if (state === "failed") announce(`${this.name} failed: ${text}`);
  }

  halt() {
    if (this.figure.dataset.state === "stopped") this.leave = this.ask(entry => this.update(entry));
    else {
      this.leave?.();
      this.leave = null;
      this.write("stopped", "Stopped");
      this.stop.focus();
    }
  }

  async finish({id, url, score, data}) {
    this.id = id;
    this.write("done", "");
    if (PAGE.test(url)) {
      this.note.replaceChildren(make("a", {href: url, target: "_blank", rel: "noopener"}, "Open its page"));
      announce(`${this.name} is ready`);
      return;
    }
    this.img.src = url;
    this.onFinal?.(url);
    this.img.alt = this.name;
    this.file.href = url;
    this.enable(true);
    this.measure({score});
    this.starred();
    announce(`${this.name} is rendered`);
    if (this.actions.hidden) {
      if (data?.target) this.note.textContent = `Red raises ${data.target}, blue lowers it`;
      return;
    }
    this.asking = new AbortController();
    try {
      this.info = await api.image(id, this.asking.signal);
      if (this.id === id) this.measure(this.info);
    } catch (error) {
      if (error.name !== "AbortError") this.info = null; // the image is there; only its figures are missing
    }
  }

  measure({score, robustness, seconds, history}) {
    const rows = [["Score", score, "Value of the objective for the image"],
      ["Robustness", robustness, "Share of the score gain that is retained in new random views, at most 1"],
      ["Time", seconds, "Rendering time"]].filter(([, value]) => Number.isFinite(value));
    this.facts.replaceChildren(...rows.map(([term, value, title]) =>
      make("div", {title}, make("dt", {}, term), make("dd", {}, term === "Time" ? `${short(value)} s` : short(value)))));
    const line = curve(history);
    if (line) this.facts.append(make("div", {class: "history", title: "Score at each step"}, make("dt", {}, "Score at each step"), make("dd", {}, line)));
  }

  /** Show a smaller image until there is something better. */
  placeholder(url) {
    if (!this.img.hasAttribute("src")) this.img.src = url;
  }

  async copy(part, button) {
    if (!this.id) return;
    try {
      this.info ||= await api.image(this.id);
    } catch (error) {
      button.textContent = "Not found";
      announce(error.message);
      return;
    }
    const text = this.info[part];
    copy(typeof text === "string" ? text : JSON.stringify(text, null, 2), button);
  }

  keep() {
    if (this.id) this.board.toggle(this.id, this.name);
  }

  starred() {
    const kept = Boolean(this.id) && this.board.has(this.id);
    this.star.setAttribute("aria-pressed", kept);
    this.star.lastElementChild.textContent = kept ? "Kept" : "Keep";
    this.star.title = kept ? "Remove from the board" : "Keep on the board";
  }
}
