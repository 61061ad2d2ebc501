// The layers as a tree: grouped by module path, filtered by a box, moved through with the arrow keys.

import {at, make} from "./dom.js";

const MOST_OPEN = 40; // layers up to which all groups start open

/** Group layers by the parts of their names: nodes `{part, path, layer, children}`. */
export function grouped(layers) {
  const root = {part: "", path: "", layer: null, children: new Map()};
  for (const layer of layers) {
    let node = root;
    for (const part of layer.name.split(".")) {
      const path = node.path ? `${node.path}.${part}` : part;
      if (!node.children.has(part)) node.children.set(part, {part, path, layer: null, children: new Map()});
      node = node.children.get(part);
    }
    node.layer = layer;
  }
  return shortened(root);
}

// A group that holds only one other thing is written in one row: "features.0".
function shortened(node) {
  const children = [...node.children.values()].map(child => {
    let last = child, part = child.part;
    while (!last.layer && last.children.size === 1) {
      [last] = last.children.values();
      part += `.${last.part}`;
    }
    return shortened({...last, part});
  });
  return {...node, children};
}

export class Tree {
  /** @param open Called with the name of a chosen layer. */
  constructor(layers, open) {
    this.root = at("tree");
    this.open = open;
    this.layers = layers;
    this.all = layers.length <= MOST_OPEN;
    this.opened = new Set();
    this.items = new Map();
    this.current = null;
    this.root.replaceChildren(...grouped(layers).children.map(node => this.item(node, 1)));
    this.root.addEventListener("keydown", event => this.key(event));
    this.root.addEventListener("click", event => this.click(event));
    at("filter").addEventListener("input", () => this.filter(at("filter").value));
    at("filter").addEventListener("keydown", event => this.filterKey(event));
  }

  item(node, level) {
    const {layer, children, part, path} = node, group = children.length > 0;
    const size = layer && (layer.note || layer.channels);
    const row = make("div", {class: "row", title: layer ? [layer.name, layer.type].filter(Boolean).join(": ") : path},
      make("span", {class: group ? "twist" : "twist none", "aria-hidden": "true"}),
      make("span", {class: "part"}, part),
      layer ? make("span", {class: "kind", "aria-hidden": "true"}, layer.type ?? "") : null,
      layer ? make("span", {class: "count", "aria-hidden": "true"}, String(size)) : null);
    row.style.setProperty("--level", level);
    const label = layer ? [part, layer.type, `${layer.channels} channels`].filter(Boolean).join(", ") : part;
    const item = make("li", {role: "treeitem", tabindex: "-1", "aria-level": level, "aria-label": label, class: layer ? "layer" : "group"}, row);
    Object.assign(item, {node});
    this.items.set(path, item);
    if (group) {
      item.append(make("ul", {role: "group"}, ...children.map(child => this.item(child, level + 1))));
      item.setAttribute("aria-expanded", this.all);
    }
    return item;
  }

  /** Mark the layer on the screen, open the groups it is in, and scroll to it. */
  select(name) {
    for (const item of this.root.querySelectorAll("[aria-selected=true]")) item.setAttribute("aria-selected", "false");
    const item = this.items.get(name);
    if (!item) return;
    item.setAttribute("aria-selected", "true");
    for (let up = item.parentElement.closest("li"); up; up = up.parentElement.closest("li")) up.setAttribute("aria-expanded", "true");
    this.rove(item);
    const row = item.firstElementChild, frame = this.root.getBoundingClientRect(), box = row.getBoundingClientRect();
    if (box.top < frame.top || box.bottom > frame.bottom) this.root.scrollTop += box.top - frame.top - frame.height / 2;
  }

  rove(item) {
    this.current?.setAttribute("tabindex", "-1");
    this.current = item;
    item.setAttribute("tabindex", "0");
  }

  click(event) {
    const item = event.target.closest("li");
    if (!item) return;
    this.rove(item);
    const twist = event.target.closest(".twist:not(.none)");
    if (twist || !item.node.layer) this.toggle(item);
    else {
      this.toggle(item, true);
      this.open(item.node.layer.name);
    }
  }

  toggle(item, open = item.getAttribute("aria-expanded") !== "true") {
    if (item.hasAttribute("aria-expanded")) item.setAttribute("aria-expanded", open);
  }

  get shown() {
    return [...this.root.querySelectorAll("li")].filter(item => item.checkVisibility());
  }

  key(event) {
    const item = event.target.closest("li"), {key} = event;
    if (!item || event.ctrlKey || event.altKey || event.metaKey) return;
    const open = item.getAttribute("aria-expanded") === "true", shown = this.shown, place = shown.indexOf(item);
    const moves = {ArrowDown: shown[place + 1], ArrowUp: shown[place - 1], Home: shown[0], End: shown.at(-1)};
    if (key === "ArrowRight" && !open && item.hasAttribute("aria-expanded")) this.toggle(item, true);
    else if (key === "ArrowRight") this.focus(open ? shown[place + 1] : null);
    else if (key === "ArrowLeft" && open) this.toggle(item, false);
    else if (key === "ArrowLeft") this.focus(item.parentElement.closest("li"));
    else if (key in moves) this.focus(moves[key]);
    else if ((key === "Enter" || key === " ") && item.node.layer) this.open(item.node.layer.name);
    else if (key === "Enter" || key === " ") this.toggle(item);
    else return;
    event.preventDefault();
  }

  focus(item) {
    if (!item) return;
    this.rove(item);
    item.focus();
  }

  filter(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = layer => words.every(word => `${layer.name} ${layer.type ?? ""}`.toLowerCase().includes(word));
    let count = 0;
    const keep = item => {
      const own = Boolean(item.node.layer && matches(item.node.layer));
      const below = [...(item.querySelector("ul")?.children || [])].map(keep).some(Boolean);
      count += own;
      item.hidden = !own && !below;
      if (words.length && below) item.setAttribute("aria-expanded", "true");
      return !item.hidden;
    };
    [...this.root.children].forEach(keep);
    at("unmatched").hidden = count > 0;
    const first = this.shown[0];
    if (first && !this.current?.checkVisibility()) this.rove(first);
  }

  filterKey(event) {
    if (event.key === "ArrowDown") this.focus(this.shown[0]);
    else if (event.key === "Enter") {
      const item = this.shown.find(item => item.node.layer);
      if (item) this.open(item.node.layer.name);
    } else return;
    event.preventDefault();
  }
}
