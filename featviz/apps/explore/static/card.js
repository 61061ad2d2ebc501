// The card of a unit: its image, the opposite, other images of it, photographs, and the units it is connected with.

import * as api from "./api.js";
import {announce, at, make, short, thumbnail} from "./dom.js";
import {Plate} from "./plate.js";
import {address, drafted, recipe} from "./state.js";

const MOST_LINKS = 6; // connected units of each sign

export class Card {
  constructor(state, images, board, tiles) {
    Object.assign(this, {state, images, tiles, dialog: at("card"), shown: null, leave: [], asking: null});
    this.plate = new Plate(images, board);
    this.plate.onFinal = url => { // the strip then shows the same image
      const img = at("variants").querySelector("[aria-pressed=true] img");
      if (img) Object.assign(img, {src: url}).dataset.final = url;
    };
    at("card-plate").append(this.plate.figure);
    at("card-actions").append(this.plate.facts, this.plate.actions);
    at("card-close").addEventListener("click", () => this.dialog.close());
    at("card-before").addEventListener("click", () => this.step(-1));
    at("card-after").addEventListener("click", () => this.step(1));
    at("card-type").addEventListener("click", () => this.type());
    this.dialog.addEventListener("click", event => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("close", () => this.closed());
    this.dialog.addEventListener("keydown", event => this.key(event));
    state.addEventListener("change", () => this.follow());
    images.stream.addEventListener("unit", ({detail}) => this.news(detail));
    images.stream.addEventListener("open", () => this.dialog.open && this.ask());
  }

  /** Open, change or close as the state says. */
  follow() {
    const {view, layer, channel} = this.state.now, open = view === "layer" && channel !== null;
    if (!open) {
      if (this.dialog.open) this.dialog.close();
      return;
    }
    const key = JSON.stringify([layer, channel, this.state.settings]);
    if (key === this.shown) return;
    this.shown = key;
    this.tiles.rest(true);
    this.show(this.state.layer, channel);
    if (!this.dialog.open) {
      this.dialog.showModal();
      at("card-title").focus();
    }
  }

  closed() {
    this.drop();
    this.plate.clear();
    this.shown = null;
    this.tiles.rest(false);
    const {channel, view} = this.state.now;
    if (channel === null || view !== "layer") return; // closed by Back, or by leaving
    this.state.set({channel: null});
    const {activeElement: focused, body} = document;
    if (focused === body || at("tiles").contains(focused)) this.tiles.focus(channel); // unless it has moved on
  }

  drop() {
    this.asking?.abort();
    this.leave.forEach(run => run());
    this.leave = [];
  }

  show(layer, channel) {
    this.drop();
    const unit = address(layer.name, channel), label = layer.labels?.[channel];
    at("card-title").textContent = label ?? unit;
    at("card-kind").textContent = label === undefined ? layer.type ?? "" : unit;
    at("card-count").textContent = `${(channel + 1).toLocaleString("en")} of ${layer.channels.toLocaleString("en")}`;
    at("card-before").disabled = channel === 0;
    at("card-after").disabled = channel === layer.channels - 1;
    this.unit = {unit, name: label ?? unit};
    this.drawn = new Map();
    this.variants([{objective: unit, title: "Positive", name: this.unit.name}]);
    for (const id of ["card-photographs", "card-inputs", "card-outputs"]) at(id).hidden = true;
    this.plate.show(recipe(unit, this.state.settings), {name: this.unit.name, soon: true, draft: this.tiles.find(channel)?.img.getAttribute("src")});
    at("card-problem").hidden = true;
    this.ask();
  }

  /** More is known about a layer: its photographs have been read. */
  news({layer}) {
    if (this.dialog.open && layer === this.state.now.layer) this.ask();
  }

  /** Ask what the unit is connected with. */
  async ask() {
    const {layer, channel} = this.state.now;
    this.asking?.abort();
    this.asking = new AbortController();
    const {signal} = this.asking;
    try {
      const answer = await api.unit(layer, channel, this.images.stream.id, signal);
      if (!signal.aborted) this.fill(answer);
    } catch (error) {
      if (error.name === "AbortError") return;
      at("card-problem").textContent = error.message;
      at("card-problem").hidden = error.offline; // the banner says it
    }
  }

  fill({objectives, photographs, photographs_state: reading, photographs_problem: problem, inputs, outputs}) {
    const {name, unit} = this.unit, {negative, diverse = []} = objectives;
    const others = diverse.map((item, i) => ({...(typeof item === "string" ? {objective: item} : item), title: `Variant ${i + 1}`, name: `${name}, variant ${i + 1}`}));
    this.once("variants", objectives, () => this.variants([
      {objective: objectives.picture ?? unit, title: "Positive", name},
      ...(negative ? [{objective: negative, title: "Negative", name: `${name}, negative`}] : []),
      ...others,
    ]));
    const waiting = ["queued", "running", "reading"].includes(reading) ? "The photographs are being read …" : problem ?? "";
    at("card-photographs").hidden = !photographs?.length && !waiting;
    at("photographs-note").textContent = photographs?.length ? "" : waiting;
    this.once("photographs", photographs, () => at("photographs").replaceChildren(...(photographs || []).map((photograph, i) => this.photograph(photograph, i))));
    this.once("inputs", inputs, () => this.links("inputs", inputs || []));
    this.once("outputs", outputs, () => this.links("outputs", outputs || []));
  }

  /** Draw a part, unless it is there already with the same content. */
  once(part, content, draw) {
    const text = JSON.stringify(content) ?? "";
    if (this.drawn.get(part) === text) return;
    this.drawn.set(part, text);
    draw();
  }

  /** The strip below the image: the unit, its opposite, and different images of it. */
  variants(list) {
    const strip = at("variants");
    if (strip.children.length === 1 && list.length > 1) list.slice(1).forEach(item => strip.append(this.variant(item)));
    else strip.replaceChildren(...list.map(item => this.variant(item)));
    strip.querySelector("[aria-pressed=true]") || strip.querySelector("button").setAttribute("aria-pressed", "true");
  }

  variant(item) {
    const {img, frame} = thumbnail(), {settings} = this.state, more = item.index === undefined ? {} : {index: item.index};
    const button = make("button", {type: "button", "aria-pressed": "false", title: item.objective}, frame, make("span", {}, item.title));
    button.addEventListener("click", () => {
      for (const other of at("variants").querySelectorAll("button")) other.setAttribute("aria-pressed", other === button);
      this.plate.show(recipe(item.objective, settings, more), {name: item.name, draft: img.getAttribute("src")});
    });
    const small = recipe(item.objective, drafted(settings, this.tiles.drafts), more);
    this.leave.push(this.images.want(small, {group: "card"}, entry => this.fillIn(button, img, entry)));
    return make("li", {}, button);
  }

  fillIn(button, img, {state, url, error}) {
    button.dataset.state = state;
    img.parentElement.querySelector(".tile-note")?.remove();
    if (state === "done") {
      img.src = img.dataset.final ?? url;
      if (button.getAttribute("aria-pressed") === "true") this.plate.placeholder(url);
    }
    if (state !== "failed") return;
    button.title = error;
    img.after(make("span", {class: "tile-note"}, error.split(/[,;:]/)[0]));
  }

  photograph({url, score, box}, i) {
    const img = make("img", {src: url, alt: `Photograph ${i + 1}, activation ${short(score)}`, loading: "lazy"});
    const frame = make("div", {class: "photograph", title: `activation ${short(score)}`}, img);
    if (box) { // shares of the photograph: top, bottom, left, right
      const [top, bottom, left, right] = box, mark = make("span", {class: "mark"});
      for (const [edge, share] of Object.entries({top, left, height: bottom - top, width: right - left})) mark.style.setProperty(edge, `${100 * share}%`);
      if ((bottom - top) * (right - left) < 0.95) frame.append(mark);
    }
    return make("li", {}, frame);
  }

  /** Connected units, with their images, strongest first. */
  links(kind, units) {
    const section = at(`card-${kind}`), largest = Math.max(...units.map(({weight}) => Math.abs(weight)), 1e-9);
    const found = units.map(link => ({...this.split(link), ...link})), layers = new Set(found.map(({layer}) => layer));
    const [from] = layers, one = layers.size === 1 && from !== undefined;
    section.hidden = !units.length;
    section.querySelector("h3").textContent = `${kind === "inputs" ? "Inputs" : "Outputs"}${one ? ` in ${from}` : ""}`;
    const signs = [["excitatory", found.filter(({weight}) => weight >= 0)], ["inhibitory", found.filter(({weight}) => weight < 0)]]
      .map(([sign, list]) => [sign, list.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight)).slice(0, MOST_LINKS)]);
    at(kind).replaceChildren(...signs.filter(([, list]) => list.length).map(([sign, list]) =>
      make("div", {class: `links ${sign}`}, make("h4", {}, sign), make("ul", {}, ...list.map(link => this.link({...link, name: one ? link.channel : link.address}, largest))))));
  }

  link({address: unit, weight, layer, channel, name}, largest) {
    const {img, frame} = thumbnail(), bar = make("span", {class: "weight"});
    bar.style.setProperty("--share", Math.abs(weight) / largest);
    const button = make("button", {type: "button", title: `weight ${short(weight)}`, "aria-label": `${unit}, weight ${short(weight)}`},
      frame, make("span", {class: "link-name"}, name), bar);
    if (layer !== undefined) button.addEventListener("click", () => this.go({layer, channel}));
    else button.disabled = true;
    const small = recipe(unit, drafted(this.state.settings, this.tiles.drafts));
    this.leave.push(this.images.want(small, {group: "card", soon: true}, entry => this.fillIn(button, img, entry)));
    return make("li", {}, button);
  }

  // Layer and channel of an address; nothing when it is not one of a layer in the tree.
  split({address: unit}) {
    const rest = name => Number(unit.slice(address(name, "").length));
    const layer = this.state.about.layers.find(({name, channels}) => unit.startsWith(address(name, "")) && rest(name) < channels);
    return layer && {layer: layer.name, channel: rest(layer.name)};
  }

  go({layer, channel}) {
    this.state.set({layer, channel});
    at("card-title").focus();
    this.dialog.scrollTop = 0;
  }

  step(by) {
    const channel = this.state.now.channel + by;
    if (channel < 0 || channel >= this.state.layer.channels) return;
    this.state.set({channel}, {replace: true});
    announce(this.unit.name);
  }

  type() {
    const {unit} = this.unit;
    this.state.set({channel: null}); // closes the card; `closed` then leaves the focus alone
    at("objective").value = unit;
    at("objective").focus();
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input, textarea, select")) return;
    if (event.key === "ArrowRight") this.step(1);
    else if (event.key === "ArrowLeft") this.step(-1);
    else if (event.key === "s") this.plate.keep();
    else return;
    event.preventDefault();
  }
}
