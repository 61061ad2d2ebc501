// The board of favourites: kept by the server, with notes, and exported as a static gallery.

import * as api from "./api.js";
import {ICONS, announce, at, counted, icon, later, make} from "./dom.js";

const TYPING = 600; // ms after the last key until a note is kept
const MOST = 500; // images that the server keeps
const CHANNEL = tabs();

/** The way to the other tabs of this page; none where the browser forbids it, as inside of some notebooks. */
function tabs() {
  try {
    return new BroadcastChannel(`board ${location.pathname}`);
  } catch {
    return null;
  }
}

/** Event "change" when the items changed, here or in another tab; "saved" with `detail` true or false. */
export class Board extends EventTarget {
  constructor(stream) {
    super();
    this.items = [];
    this.changes = []; // not kept by the server yet
    this.stale = false; // whether the server may have other items
    this.saving = null;
    CHANNEL?.addEventListener("message", () => this.load());
    stream.addEventListener("open", () => (this.changes.length ? this.save() : this.load()));
  }

  has(id) {
    return this.items.some(item => item.id === id);
  }

  load() {
    this.stale = true;
    return this.save();
  }

  put(items) {
    this.items = items;
    this.dispatchEvent(new Event("change"));
  }

  toggle(id, name) {
    const kept = this.has(id);
    if (!kept && this.items.length >= MOST) return announce(`The board is full: it holds ${MOST} images.`);
    this.change(items => (kept ? items.filter(item => item.id !== id) : [...items.filter(item => item.id !== id), {id, note: ""}]));
    announce(kept ? `${name} removed from the board` : `${name} kept on the board`);
  }

  note(id, note) {
    this.change(items => items.map(item => (item.id === id ? {...item, note} : item)));
  }

  /** Apply a change here and to the server's board; without a connection it is applied when that is back. */
  change(change) {
    this.changes.push(change);
    this.put(change(this.items));
    this.save();
  }

  async save() {
    if (this.saving) return this.saving;
    this.saving = this.send();
    try {
      await this.saving;
    } finally {
      this.saving = null;
    }
  }

  /** Read the server's board and apply the changes made here; again while it changes. */
  async send() {
    do {
      const {length} = this.changes;
      this.stale = false;
      try {
        const {items, revision} = await api.board();
        const now = this.changes.slice(0, length).reduce((list, change) => change(list), items);
        if (length) {
          await api.saveBoard(now.map(({id, note}) => ({id, note})), revision);
          this.changes.splice(0, length);
          CHANNEL?.postMessage("changed");
          this.dispatchEvent(new CustomEvent("saved", {detail: true}));
        }
        this.put(this.changes.reduce((list, change) => change(list), now));
      } catch (error) {
        if (error.status === 409) { // another tab changed it just now
          this.stale = true;
          continue;
        }
        if (length) this.dispatchEvent(new CustomEvent("saved", {detail: false}));
        if (error.passing || !this.changes.length) return; // the stream tells when the server is back, and the board is loaded then
        this.changes.splice(0, length); // the server will not take it; show what it has
        announce(error.message);
        this.stale = true;
      }
    } while (this.stale || this.changes.length);
  }
}

/** The view of the board. */
export class BoardView {
  constructor(board, open) {
    Object.assign(this, {board, open, items: new Map(), visible: false});
    board.addEventListener("change", () => { this.count(); if (this.visible) this.show(); });
    board.addEventListener("saved", ({detail}) => { at("board-note").textContent = detail ? "" : "Not kept yet: the server cannot be reached."; });
    at("export").addEventListener("click", () => this.save());
  }

  count() {
    const {length} = this.board.items;
    at("board-count").textContent = length || "";
    at("to-board").setAttribute("aria-label", `Board, ${counted(length, "image")}`);
  }

  show() {
    this.visible = true;
    const {items} = this.board, kept = new Set(items.map(({id}) => id));
    for (const [id, node] of this.items) if (!kept.has(id)) node.remove(), this.items.delete(id);
    for (const item of items) {
      if (!this.items.has(item.id)) this.items.set(item.id, this.item(item));
      const node = this.items.get(item.id), box = node.querySelector("textarea");
      if (box !== document.activeElement) box.value = item.note;
      if (node.parentElement !== at("kept")) at("kept").append(node);
    }
    at("board-empty").hidden = items.length > 0;
    at("export").disabled = !items.length;
    at("board-about").textContent = counted(items.length, "image");
  }

  hide() {
    this.visible = false;
    at("kept").replaceChildren();
    this.items.clear();
  }

  item({id, objective}) {
    const title = make("b", {}, objective ?? "…"), img = make("img", {src: `./images/${id}.png`, alt: objective ?? "", loading: "lazy", width: "256", height: "256"});
    const keep = later(value => this.board.note(id, value), TYPING);
    const box = make("textarea", {rows: "2", maxlength: "1000", placeholder: "Note", "aria-label": "Note", oninput: () => keep(box.value),
      onblur: () => { keep.stop(); if (this.board.items.some(item => item.id === id && item.note !== box.value)) this.board.note(id, box.value); }});
    const remove = make("button", {type: "button", class: "plain", "aria-label": "Remove from the board", onclick: () => this.remove(id)}, icon(ICONS.close));
    const link = make("button", {type: "button", class: "plain show", onclick: () => this.again(id)}, img);
    link.setAttribute("aria-label", "Open");
    const node = make("li", {}, link, make("div", {class: "kept-name"}, title, remove), box);
    if (objective === undefined) this.describe(id, title, img, link);
    return node;
  }

  async describe(id, title, img, link) {
    try {
      const {objective} = await api.image(id);
      title.textContent = img.alt = objective;
      link.setAttribute("aria-label", `Open ${objective}`);
    } catch (error) {
      title.textContent = error.offline ? "…" : "no longer in the store";
    }
  }

  /** Open an image with the settings that it was made with. */
  async again(id) {
    try {
      const {objective, size, steps, seed, param, transforms} = await api.image(id), [high, wide] = [size].flat();
      const settings = {size: wide === undefined || high === wide ? high : size, steps, seed, param, transforms};
      if (objective) this.open(objective, Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined && value !== null)));
    } catch (error) {
      announce(error.message);
    }
  }

  remove(id) {
    const node = this.items.get(id), next = node.nextElementSibling || node.previousElementSibling;
    this.board.toggle(id, node.querySelector("b").textContent);
    (next?.querySelector(".kept-name button") || at("board-title")).focus();
  }

  async save() {
    at("board-note").textContent = "Making the gallery …";
    try {
      await this.board.save();
      const {url} = await api.exportBoard();
      const link = make("a", {href: url, download: ""});
      document.body.append(link);
      link.click();
      link.remove();
      at("board-note").textContent = "";
      announce("The gallery is downloaded");
    } catch (error) {
      at("board-note").textContent = error.message;
    }
  }
}
