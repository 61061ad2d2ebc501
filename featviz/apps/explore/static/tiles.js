// The channels of a layer as a grid of tiles. Only the rows in view, and one screen below them, are in the document
// and asked for; a layer of 2048 channels costs no more than one of 64.

import {at, make} from "./dom.js";
import {address, drafted, recipe} from "./state.js";

const NARROWEST = 118, NARROWEST_ON_PHONES = 96; // px of a tile
const GAP = 14, LABEL = 24; // px between tiles, and below each
const AHEAD = 1; // screens below the view that are drawn ahead

export class Tiles {
  /** @param open Called with a channel. */
  constructor(images, open) {
    Object.assign(this, {images, open, root: at("tiles"), layer: null, settings: null, rows: new Map(), columns: 1, current: 0, cell: 0, behind: false});
    this.root.addEventListener("click", event => this.click(event));
    this.root.addEventListener("keydown", event => this.key(event));
    this.root.addEventListener("focusin", event => this.rove(Number(event.target.closest("button")?.dataset.channel)));
    addEventListener("scroll", () => this.plan(), {passive: true});
    addEventListener("resize", () => this.plan());
    new ResizeObserver(() => this.measure()).observe(this.root);
    images.addEventListener("idle", () => this.behind && this.plan());
    images.addEventListener("urgent", () => this.behind && this.makeWay());
  }

  /** Show a layer under some settings. Images of another layer are given up. */
  show(layer, settings, drafts) {
    const other = layer.name !== this.layer?.name;
    this.clear();
    Object.assign(this, {layer, settings, drafts, current: other ? 0 : this.current});
    this.root.setAttribute("aria-label", `Channels of ${layer.name}`);
    this.measure();
  }

  /** Give up everything that is not rendered yet. */
  clear() {
    for (const row of this.rows.values()) this.remove(row);
    this.rows.clear();
  }

  /** Rest while a card is open: what it shows comes first. The tiles go on when it has everything. */
  rest(behind) {
    this.behind = behind;
    if (behind) this.makeWay();
    else this.plan();
  }

  makeWay() {
    for (const tile of this.tiles) ["draft", "full"].forEach(which => this.giveUp(tile, which));
  }

  hide() {
    this.clear();
    this.layer = null;
  }

  get count() {
    return this.layer?.channels ?? 0;
  }

  get height() {
    return this.cell + LABEL + GAP;
  }

  /** Fit columns to the width; the first channel in view stays in view. */
  measure() {
    const width = this.root.clientWidth;
    if (!this.layer || !width) return;
    const narrow = innerWidth < 700, gap = narrow ? 10 : GAP;
    const columns = Math.max(2, Math.floor((width + gap) / ((narrow ? NARROWEST_ON_PHONES : NARROWEST) + gap)));
    const cell = (width - gap * (columns - 1)) / columns;
    if (columns !== this.columns || Math.abs(cell - this.cell) > 0.01) {
      for (const row of this.rows.values()) this.remove(row);
      this.rows.clear();
    }
    Object.assign(this, {columns, cell});
    const lines = Math.ceil(this.count / columns);
    this.root.style.height = `${lines * this.height}px`;
    this.root.style.setProperty("--columns", columns);
    this.root.style.setProperty("--gap", `${gap}px`);
    this.root.setAttribute("aria-rowcount", lines);
    this.root.setAttribute("aria-colcount", columns);
    this.fill();
  }

  plan() {
    if (this.layer) this.frame ||= requestAnimationFrame(() => { this.frame = 0; this.fill(); });
  }

  /** The rows in view, as the first and the one after the last. */
  get view() {
    const top = -this.root.getBoundingClientRect().top + at("top").offsetHeight;
    const lines = Math.ceil(this.count / this.columns), line = y => Math.min(lines, Math.max(0, y / this.height));
    return [Math.floor(line(top)), Math.ceil(line(-this.root.getBoundingClientRect().top + innerHeight)), lines];
  }

  fill() {
    if (!this.layer || !this.cell) return;
    const [first, end, lines] = this.view;
    const last = Math.min(lines, end + Math.ceil((AHEAD * innerHeight) / this.height)), start = Math.max(0, first - 1);
    for (const [line, row] of this.rows) {
      const focused = row.node.contains(document.activeElement);
      if ((line < start || line >= last) && !focused) {
        this.remove(row);
        this.rows.delete(line);
      }
    }
    for (let line = start; line < last; line++) if (!this.rows.has(line)) this.rows.set(line, this.add(line));
    for (const [line, row] of this.rows) row.tiles.forEach(tile => this.ask(tile, this.behind || line < first || line >= end));
    const here = Math.floor(this.current / this.columns);
    if (!this.rows.has(here) && first < lines) this.rove(first * this.columns);
    else this.rove(this.current);
  }

  add(line) {
    const channels = Array.from({length: this.columns}, (_, i) => line * this.columns + i).filter(channel => channel < this.count);
    const tiles = channels.map(channel => this.tile(channel));
    const node = make("div", {role: "row", class: "tiles-row", "aria-rowindex": line + 1},
      ...tiles.map(({button}, i) => make("div", {role: "gridcell", "aria-colindex": i + 1}, button)));
    node.style.transform = `translateY(${line * this.height}px)`;
    const before = [...this.rows.entries()].filter(([other]) => other > line).sort((a, b) => a[0] - b[0])[0];
    this.root.insertBefore(node, before ? before[1].node : null); // readers and Tab follow the document
    return {node, tiles};
  }

  tile(channel) {
    const label = this.layer.labels?.[channel] ?? String(channel);
    const img = make("img", {alt: "", width: "1", height: "1", decoding: "async"});
    const bar = make("span", {class: "bar"}), note = make("span", {class: "tile-note"});
    const frame = make("span", {class: "frame"}, img, note, bar);
    const button = make("button", {type: "button", class: "tile", tabindex: "-1", "data-channel": channel, "data-state": "new"},
      frame, make("span", {class: "label", title: label}, label));
    const kind = this.layer.labels ? "Class" : "Channel";
    const tile = {channel, label, kind, img, bar, note, button, draft: null, full: null, soon: null, leave: {}};
    this.name(tile, "not rendered yet");
    return tile;
  }

  name(tile, state) {
    tile.button.setAttribute("aria-label", `${tile.kind} ${tile.label}${state ? `, ${state}` : ""}`);
  }

  get draftIsAll() {
    return this.settings.steps <= this.drafts.steps && Math.max(...[this.settings.size].flat()) <= this.drafts.size;
  }

  /**
   * Ask for the images of a tile. In view, the final one is asked for first, since it may be in the store; when it
   * is not, the draft as well, which the server draws before all final ones. Out of view, only the draft.
   */
  ask(tile, soon) {
    if (tile.full === "done" || (this.behind && this.images.pending.some(entry => !entry.soon))) return;
    const urgent = tile.soon && !soon;
    tile.soon = soon;
    if (soon) this.giveUp(tile, "full");
    else if (!tile.full) this.want(tile, "full");
    if ((soon && !tile.draft) || (urgent && tile.draft === "asked")) this.want(tile, "draft");
  }

  want(tile, which) {
    const {layer, settings, drafts, images} = this, leave = tile.leave[which];
    const how = which === "draft" ? drafted(settings, drafts) : settings;
    tile[which] = "asked";
    const wanted = recipe(address(layer.name, tile.channel), how);
    tile.leave[which] = images.want(wanted, {group: layer.name, soon: tile.soon}, entry => this.update(tile, entry, which));
    leave?.(); // after the new wish, so that nothing is cancelled in between
  }

  giveUp(tile, which) {
    if (tile[which] !== "asked") return;
    tile.leave[which]?.();
    tile[which] = null;
    tile.bar.style.transform = "scaleX(0)";
    if (tile.button.dataset.state === "running") tile.button.dataset.state = "new";
  }

  update(tile, entry, which) {
    const {button, note, bar} = tile, {state} = entry;
    if (state === "done") {
      tile[which] = "done";
      note.textContent = "";
      this.put(tile, entry.url, which);
      return;
    }
    bar.style.transform = `scaleX(${state === "asked" && entry.steps ? entry.done / entry.steps : 0})`;
    if (which === "full" && state === "asked" && entry.id && !tile.draft && !this.draftIsAll) this.want(tile, "draft");
    if (tile.img.hasAttribute("src")) return; // the draft stays, whatever becomes of the final image
    note.textContent = state === "failed" ? entry.error.split(/[,;:]/)[0] : state === "stopped" ? "stopped" : "";
    note.title = entry.error ?? "";
    button.dataset.state = state === "asked" && entry.steps ? "running" : state;
    this.name(tile, {failed: `failed: ${entry.error}`, stopped: "stopped"}[state] || "rendering");
  }

  /** Show an image once it is decoded, so that a draft never makes room for an empty frame. */
  async put(tile, url, which) {
    const sharp = which === "full" || this.draftIsAll;
    const next = new Image();
    next.src = url;
    try {
      await next.decode();
    } catch {
      if (!next.complete || !next.naturalWidth) {
        tile.button.dataset.state = "failed";
        tile.note.textContent = "The image could not be loaded.";
        return;
      }
    }
    if (which === "draft" && tile.full === "done" && !sharp) return; // the sharper one was faster
    tile.img.src = url;
    tile.button.dataset.state = sharp ? "sharp" : "draft";
    this.name(tile, sharp ? "" : "draft");
  }

  get tiles() {
    return [...this.rows.values()].flatMap(row => row.tiles);
  }

  remove(row) {
    for (const tile of row.tiles) {
      for (const leave of Object.values(tile.leave)) leave();
      tile.img.removeAttribute("src");
    }
    row.node.remove();
  }

  find(channel) {
    return this.rows.get(Math.floor(channel / this.columns))?.tiles[channel % this.columns];
  }

  rove(channel) {
    if (!Number.isInteger(channel)) return;
    this.find(this.current)?.button.setAttribute("tabindex", "-1");
    this.current = channel;
    this.find(channel)?.button.setAttribute("tabindex", "0");
  }

  /** Bring a channel into view and give it the focus. */
  focus(channel) {
    if (!this.layer) return;
    const line = Math.floor(channel / this.columns), top = this.root.getBoundingClientRect().top + line * this.height;
    const above = at("top").offsetHeight + 8, below = innerHeight - this.height;
    if (top < above) scrollBy(0, top - above);
    else if (top > below) scrollBy(0, top - below);
    if (!this.rows.has(line)) this.rows.set(line, this.add(line));
    this.rove(channel);
    this.find(channel)?.button.focus({preventScroll: true});
    this.fill();
  }

  click(event) {
    const button = event.target.closest("button");
    if (button) this.open(Number(button.dataset.channel));
  }

  key(event) {
    if (!event.target.closest("button") || event.altKey || event.metaKey) return;
    const {columns, count, current} = this, page = columns * Math.max(1, Math.floor((innerHeight - at("top").offsetHeight) / this.height) - 1);
    const row = current - (current % columns);
    const moves = {
      ArrowRight: current + 1, ArrowLeft: current - 1, ArrowDown: current + columns, ArrowUp: current - columns,
      PageDown: Math.min(count - 1, current + page), PageUp: Math.max(current % columns, current - page),
      Home: event.ctrlKey ? 0 : row, End: event.ctrlKey ? count - 1 : Math.min(count - 1, row + columns - 1),
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const to = moves[event.key];
    if (to >= 0 && to < count) this.focus(to);
  }
}
