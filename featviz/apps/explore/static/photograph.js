// The view of a photograph: drop one to dream on it, to explain it, or to take it apart.

import * as api from "./api.js";
import {ObjectiveBox} from "./completion.js";
import {announce, at, make} from "./dom.js";
import {Plate} from "./plate.js";

const LARGEST = 20e6; // bytes of an image that the server takes
const TASKS = ["dream", "explain", "blocks"];

export class PhotographView {
  constructor(state, images, board) {
    Object.assign(this, {state, shown: null, photograph: null, task: "dream"});
    this.plate = new Plate(images, board);
    at("photograph-plate").append(this.plate.figure);
    at("photograph-actions").append(this.plate.facts, this.plate.actions);
    this.fill(state.about);
    at("file").addEventListener("change", () => this.take(at("file").files));
    at("choose").addEventListener("click", () => at("file").click());
    at("other-photograph").addEventListener("click", () => at("file").click());
    for (const task of TASKS) {
      at(`tab-${task}`).addEventListener("click", () => this.pick(task));
      at(`form-${task}`).addEventListener("submit", event => { event.preventDefault(); this.start(task); });
    }
    at("tasks").addEventListener("keydown", event => this.tabKey(event));
    for (const name of ["strength", "octaves"]) at(name).addEventListener("input", () => { at(`${name}-value`).textContent = at(name).value; });
    for (const id of ["dream-objective", "explain-objective"]) new ObjectiveBox(at(id), () => this.start(this.task));
    this.dropZone();
  }

  fill({methods = [], layers}) {
    at("method").replaceChildren(...methods.map(method => make("option", {value: method.name ?? method}, method.title ?? method.name ?? method)));
    at("apart").replaceChildren(...layers.filter(layer => layer.height > 1).map(({name}) => make("option", {value: name}, name)));
    at("tab-explain").disabled = !methods.length;
    at("tab-blocks").disabled = !at("apart").options.length;
  }

  /** A file may be dropped anywhere on the page, or pasted. */
  dropZone() {
    let inside = 0;
    const files = event => [...(event.dataTransfer?.types || [])].includes("Files");
    const over = shown => document.body.classList.toggle("dropping", shown);
    addEventListener("dragenter", event => { if (files(event)) over(++inside > 0); });
    addEventListener("dragleave", event => { if (files(event)) over((inside = Math.max(0, inside - 1)) > 0); });
    addEventListener("dragover", event => { if (files(event)) event.preventDefault(); });
    addEventListener("drop", event => {
      if (!files(event)) return;
      event.preventDefault();
      over(Boolean((inside = 0)));
      this.take(event.dataTransfer.files);
    });
    addEventListener("paste", event => {
      if (event.clipboardData?.files.length && !event.target.matches("input[type=text], textarea")) this.take(event.clipboardData.files);
    });
  }

  async take(files) {
    const [file] = files;
    if (!file) return;
    this.state.set({view: "photograph", channel: null});
    if (file.size > LARGEST) return this.fail(`The file must be at most 20 MB, got ${(file.size / 1e6).toFixed(1)} MB.`);
    this.say("Reading the photograph …");
    try {
      const photograph = await api.upload(file);
      this.photograph = photograph;
      this.state.set({photograph: photograph.id}, {replace: true});
      this.present();
    } catch (error) {
      this.fail(error.message);
    }
    at("file").value = "";
  }

  say(text, wrong = false) {
    at("photograph-note").textContent = text;
    at("photograph-note").hidden = !text;
    at("photograph-note").classList.toggle("wrong", wrong);
    if (text) announce(text);
  }

  fail(text) {
    this.say(text, true);
  }

  async show() {
    const {photograph: id} = this.state.now;
    if (id === (this.photograph?.id ?? "")) return this.present();
    try {
      this.photograph = id ? await api.uploaded(id) : null;
    } catch (error) {
      this.photograph = null;
      if (error.offline) this.fail(error.message);
      else this.state.set({photograph: ""}, {replace: true}); // it was only kept while the server ran
    }
    this.present();
  }

  present() {
    const {photograph} = this, there = Boolean(photograph);
    at("drop").hidden = there;
    at("photograph-body").hidden = !there;
    if (!there || this.shown === photograph.id) return;
    this.say("");
    this.shown = photograph.id;
    this.plate.clear();
    at("photograph").src = photograph.url;
    const {predictions = [], width, height} = photograph;
    at("photograph").alt = predictions.length ? `The photograph, recognised as ${predictions[0].name}` : "The photograph";
    at("photograph-body").style.setProperty("--ratio", Math.min(2.5, Math.max(0.6, width / height)));
    at("photograph-size").textContent = `${width} × ${height} px`;
    at("predictions").replaceChildren(...predictions.map(({name, probability}) => this.prediction(name, probability)));
    at("explain-objective").value = predictions.length ? `logit:${this.named(predictions[0].name)}` : "";
  }

  prediction(name, probability) {
    const bar = make("span", {class: "bar"});
    bar.style.setProperty("--share", probability);
    return make("li", {}, make("span", {class: "name"}, name), make("span", {class: "share"}, `${(100 * probability).toFixed(probability < 0.1 ? 1 : 0)} %`), bar);
  }

  // A class by its index, unless its name needs no quotes.
  named(name) {
    return /^[A-Za-z](?:[A-Za-z0-9_ ]*[A-Za-z0-9])?$/.test(name) ? name : this.state.about.classes.indexOf(name);
  }

  pick(task) {
    this.task = task;
    for (const other of TASKS) {
      at(`tab-${other}`).setAttribute("aria-selected", other === task);
      at(`tab-${other}`).setAttribute("tabindex", other === task ? "0" : "-1");
      at(`form-${other}`).hidden = other !== task;
    }
  }

  tabKey(event) {
    const by = {ArrowRight: 1, ArrowLeft: -1}[event.key], possible = TASKS.filter(task => !at(`tab-${task}`).disabled);
    if (!by) return;
    const next = possible.at((possible.indexOf(this.task) + by) % possible.length);
    this.pick(next);
    at(`tab-${next}`).focus();
  }

  start(task) {
    const upload = this.photograph?.id;
    if (!upload) return;
    const bodies = {
      dream: {objective: at("dream-objective").value.trim() || null, strength: Number(at("strength").value), octaves: Number(at("octaves").value), live: true},
      explain: {objective: at("explain-objective").value.trim(), method: at("method").value},
      blocks: {layer: at("apart").value},
    };
    const body = {upload, ...bodies[task]}, names = {dream: "The dream", explain: "The explanation", blocks: "Building blocks of the photograph"};
    this.plate.run(JSON.stringify([task, body]), page => api[task]({page, ...body}), {
      name: names[task], draft: this.photograph.url, plain: task !== "dream",
    });
  }

  hide() {
    this.plate.clear();
  }
}
