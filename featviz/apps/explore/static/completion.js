// A text box with completion and with the error under its caret, for objectives.

import * as api from "./api.js";
import {announce, later, make} from "./dom.js";

const TYPING = 120, PAUSE = 500; // ms after the last key until completions are asked for, and until errors are shown

export class ObjectiveBox {
  /**
   * @param input A text box; a list and a message are put after it.
   * @param accept Called with the text when Enter is pressed and the server can read it.
   */
  constructor(input, accept) {
    Object.assign(this, {input, accept, items: [], start: 0, active: -1, asking: null, checking: null});
    this.list = make("ul", {class: "completions", role: "listbox", id: `${input.id}-list`, "aria-label": "Completions", hidden: true});
    this.mark = make("span", {class: "caret", "aria-hidden": "true"}, "▴");
    this.message = make("span", {});
    this.error = make("p", {class: "error", id: `${input.id}-error`, role: "alert", hidden: true}, this.mark, this.message);
    input.after(this.list, this.error);
    for (const [name, value] of Object.entries({role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false",
      "aria-controls": this.list.id, "aria-describedby": this.error.id, autocomplete: "off", spellcheck: "false", autocapitalize: "off"}))
      input.setAttribute(name, value);
    this.completeSoon = later(() => this.complete(), TYPING);
    this.checkSoon = later(() => this.check(), PAUSE);
    input.addEventListener("input", () => this.typed());
    input.addEventListener("keydown", event => this.key(event));
    input.addEventListener("blur", () => this.close());
    input.addEventListener("scroll", () => this.place());
    this.list.addEventListener("mousedown", event => event.preventDefault()); // the box keeps the focus
    this.list.addEventListener("click", event => this.take([...this.list.children].indexOf(event.target.closest("li"))));
  }

  typed() {
    this.fail(null);
    this.completeSoon();
    if (this.input.value.trim()) this.checkSoon();
    else this.checkSoon.stop();
  }

  async complete() {
    this.asking?.abort();
    this.asking = new AbortController();
    const {value, selectionStart: caret} = this.input;
    if (!value.trim() || document.activeElement !== this.input) return this.close();
    try {
      const {start, items} = await api.complete(value, caret, this.asking.signal);
      if (value === this.input.value && document.activeElement === this.input) this.offer(start, caret, items);
    } catch (error) {
      if (error.name !== "AbortError") this.close(); // typing goes on without completions
    }
  }

  offer(start, caret, items) {
    const typed = this.input.value.slice(start, caret);
    Object.assign(this, {start, caret, active: -1, items: items.filter(item => item.text !== typed)});
    this.list.replaceChildren(...this.items.map((item, i) =>
      make("li", {role: "option", id: `${this.list.id}-${i}`, "aria-selected": "false"}, make("span", {class: "text"}, item.text), make("span", {class: "note"}, item.note ?? ""))));
    this.list.hidden = !this.items.length;
    this.list.scrollTop = 0;
    this.input.setAttribute("aria-expanded", !this.list.hidden);
    this.input.removeAttribute("aria-activedescendant");
    if (this.items.length) announce(`${this.items.length} completions`);
  }

  close() {
    this.completeSoon.stop();
    this.asking?.abort();
    this.list.hidden = true;
    this.active = -1;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  highlight(active) {
    const {length} = this.items;
    this.active = (active + length) % length;
    [...this.list.children].forEach((item, i) => item.setAttribute("aria-selected", i === this.active));
    this.list.children[this.active].scrollIntoView({block: "nearest"});
    this.input.setAttribute("aria-activedescendant", `${this.list.id}-${this.active}`);
  }

  take(place) {
    const item = this.items[place];
    if (!item) return;
    const {value} = this.input, before = value.slice(0, this.start) + item.text;
    this.input.value = before + value.slice(this.caret);
    this.input.setSelectionRange(before.length, before.length);
    this.close();
    this.typed();
  }

  key(event) {
    const open = !this.list.hidden, {key} = event;
    if (event.isComposing) return;
    if (open && key === "ArrowDown") this.highlight(this.active + 1);
    else if (open && key === "ArrowUp") this.highlight(this.active < 0 ? -1 : this.active - 1);
    else if (!open && key === "ArrowDown") this.complete();
    else if (open && key === "Escape") this.close();
    else if (open && this.active >= 0 && (key === "Enter" || key === "Tab")) this.take(this.active);
    else if (key === "Enter") this.submit();
    else return;
    event.preventDefault();
    event.stopPropagation(); // Escape closes the list before anything else
  }

  async submit() {
    const text = this.input.value.trim();
    this.close();
    if (text && await this.check()) this.accept(text);
  }

  /** Ask the server whether it can read the text; show what is wrong. */
  async check() {
    this.checkSoon.stop();
    this.checking?.abort();
    this.checking = new AbortController();
    const {value} = this.input, {signal} = this.checking;
    try {
      await api.check(value, signal);
      this.fail(null);
      return !signal.aborted;
    } catch (error) {
      if (error.name !== "AbortError" && value === this.input.value) this.fail(error);
      return false;
    }
  }

  fail(error) {
    this.input.setAttribute("aria-invalid", Boolean(error));
    this.error.hidden = !error;
    this.position = error?.position ?? null;
    this.message.textContent = error ? error.message : "";
    this.mark.hidden = this.position === null;
    this.place();
  }

  /** Put the mark under the character where reading failed; the box has a font of fixed width. */
  place() {
    if (this.position === null) return;
    const style = getComputedStyle(this.input), left = parseFloat(style.paddingLeft) + parseFloat(style.borderLeftWidth) - this.input.scrollLeft;
    this.mark.style.setProperty("--at", this.position);
    this.mark.style.setProperty("--left", `${left}px`);
    this.mark.style.visibility = left + this.position * 7 < 0 ? "hidden" : "visible";
  }
}
