// Start the page: load what the server knows about the model, and connect the parts.

import * as api from "./api.js";
import {Board, BoardView} from "./board.js";
import {Card} from "./card.js";
import {at, counted} from "./dom.js";
import {Stream} from "./events.js";
import {ObjectiveView} from "./objective.js";
import {PhotographView} from "./photograph.js";
import {Images} from "./images.js";
import {Settings} from "./settings.js";
import {State, VIEWS} from "./state.js";
import {Status} from "./status.js";
import {setTheme} from "./theme.js";
import {Tiles} from "./tiles.js";
import {Tree} from "./tree.js";

const FIRST = 0.6; // place of the first layer shown, as a share of the layers with a map: parts of objects, in most networks
const SEVERAL = 3; // layers among which to choose
const RETRY = 1500; // ms

/** Add the classes as a layer, and fill in what the server leaves to the page. */
function completed(about) {
  const {classes = [], has_logits: logits, layers, defaults} = about;
  const own = layers.filter(layer => layer.name !== "logit");
  if (logits && classes.length)
    own.push({name: "logit", kind: "class", type: "Classes", channels: classes.length, height: null, width: null, labels: classes});
  const [height, width] = about.input_size, size = defaults.size ?? (height === width ? height : [height, width]);
  return {...about, layers: own, defaults: {seed: 0, ...defaults, size}};
}

/** A layer of whole stages, as far up in the tree as there are several, rather than one step inside of a block. */
function firstLayer(layers) {
  const all = layers.filter(layer => layer.height > 1), depth = layer => layer.name.split(".").length;
  let maps = all;
  for (let deepest = 1; deepest < 8; deepest++) {
    maps = all.filter(layer => depth(layer) <= deepest);
    if (maps.length >= SEVERAL) break;
  }
  return maps[Math.round(FIRST * (maps.length - 1))] || layers.at(-1);
}

async function load() {
  for (;;) {
    try {
      return completed(await api.about());
    } catch (error) {
      at("gone").hidden = false;
      at("gone-text").textContent = `${error.message} The page tries again by itself.`;
      await new Promise(end => setTimeout(end, RETRY));
    }
  }
}

/** Title and size of the layer on the screen, and the way to the next ones. */
function describe(state, tiles) {
  const {layer} = state, {layers} = state.about, place = layers.indexOf(layer);
  at("layer-title").textContent = layer.labels ? "Classes" : layer.name;
  const map = layer.height > 1 || layer.width > 1 ? ` · ${layer.height} × ${layer.width}` : "";
  at("layer-about").textContent = layer.labels ? counted(layer.channels, "class").replace("classs", "classes") : [layer.type, counted(layer.channels, layer.name.endsWith("~") ? "feature" : "channel")].filter(Boolean).join(" · ") + map;
  for (const [id, other] of [["layer-before", layers[place - 1]], ["layer-after", layers[place + 1]]]) {
    at(id).disabled = !other;
    at(id).title = other ? other.name : "";
    at(id).onclick = () => { state.set({layer: other.name, channel: null}); scrollTo(0, 0); };
  }
  at("jump").max = layer.channels - 1;
  at("jump").onchange = () => { if (at("jump").checkValidity() && at("jump").value) tiles.focus(Number(at("jump").value)); };
  at("jump").value = "";
}

function drawer() {
  const small = matchMedia("(max-width: 860px)"), side = at("side");
  const set = (open, focus = true) => {
    document.body.classList.toggle("drawer", open && small.matches);
    at("menu").setAttribute("aria-expanded", open && small.matches);
    side.inert = small.matches && !open;
    if (small.matches && focus) (open ? at("filter") : at("menu")).focus();
  };
  at("menu").addEventListener("click", () => set(!document.body.classList.contains("drawer")));
  at("side-close").addEventListener("click", () => set(false));
  at("shade").addEventListener("click", () => set(false));
  side.addEventListener("keydown", event => event.key === "Escape" && small.matches && set(false));
  small.addEventListener("change", () => set(false, false));
  set(false, false);
  return () => document.body.classList.contains("drawer") && set(false);
}

function shortcuts(state, tiles) {
  addEventListener("keydown", event => {
    const typing = event.target.matches("input:not([type=range]), textarea, select");
    if (typing || event.ctrlKey || event.altKey || event.metaKey || at("card").open) return;
    if (event.key === "/") at("objective").focus();
    else if (event.key === "b") state.set({view: state.now.view === "board" ? "layer" : "board"});
    else if (event.key === "?") at("help").showModal();
    else return;
    event.preventDefault();
  });
  at("skip").addEventListener("click", event => {
    event.preventDefault();
    if (state.now.view === "layer") tiles.focus(tiles.current);
    else document.querySelector("main section:not([hidden]) h1").focus();
  });
  at("to-help").addEventListener("click", () => at("help").showModal());
  at("help-close").addEventListener("click", () => at("help").close());
}

async function start() {
  setTheme();
  const about = await load();
  at("gone").hidden = true;
  at("model").textContent = about.model;
  document.title = `${about.model} · featviz`;
  const state = new State(about, firstLayer(about.layers));
  const stream = new Stream(), images = new Images(stream), board = new Board(stream);
  const {defaults} = about, drafts = {size: defaults.draft_size ?? Math.max(...[defaults.size].flat()), steps: defaults.draft_steps ?? 64};
  const tiles = new Tiles(images, channel => state.set({channel}));
  const closeDrawer = drawer();
  const tree = new Tree(about.layers, layer => {
    const other = layer !== state.now.layer || state.now.view !== "layer";
    state.set({view: "layer", layer, channel: null});
    closeDrawer();
    if (other) scrollTo(0, 0);
  });
  tiles.drafts = drafts;
  const card = new Card(state, images, board, tiles), objective = new ObjectiveView(state, images, board, drafts);
  const photograph = new PhotographView(state, images, board);
  const boardView = new BoardView(board, (text, settings) => objective.open(text, settings));
  const views = {
    layer: {show: () => tiles.show(state.layer, state.settings, drafts), hide: () => tiles.hide()},
    objective, photograph, board: boardView,
  };
  new Settings(state);
  new Status(stream, images);
  shortcuts(state, tiles);
  for (const view of ["photograph", "board"])
    at(`to-${view}`).addEventListener("click", () => { state.set({view, channel: null}); at(`${view}-title`).focus(); });
  for (const node of document.querySelectorAll("[data-home]")) node.addEventListener("click", event => { event.preventDefault(); state.set({view: "layer", channel: null}); });

  const follow = changed => {
    const {view} = state.now;
    for (const name of VIEWS) {
      at(`view-${name}`).hidden = name !== view;
      if (name !== view) views[name].hide();
      at(`to-${name}`)?.setAttribute("aria-current", name === view ? "page" : "false");
    }
    if (changed("layer", "view") || view !== "layer") tree.select(view === "layer" ? state.now.layer : "");
    if (changed("layer")) describe(state, tiles);
    if (view !== "layer" || changed("view", "layer", "seed", "size", "steps", "param", "transforms")) views[view].show();
  };
  state.addEventListener("change", ({detail}) => follow(detail.changed));
  follow(() => true);
  if (state.now.objective) at("objective").value = state.now.objective;
  stream.open();
  card.follow();
  document.body.dataset.ready = "true";
}

start();
