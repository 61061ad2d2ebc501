// What is going on: how many pictures are being drawn, with a button to stop them, and whether the server is there.

import {announce, at, counted, later} from "./dom.js";

const SHOWN_AFTER = 400; // ms, so that short work does not flicker

export class Status {
  constructor(stream, pictures) {
    Object.assign(this, {stream, pictures});
    const show = later(() => this.show(), SHOWN_AFTER);
    pictures.addEventListener("change", () => { if (!this.planned) this.planned = setTimeout(() => { this.planned = 0; this.show(); }, SHOWN_AFTER); });
    pictures.addEventListener("idle", show);
    at("stop").addEventListener("click", () => (this.pictures.pending.length ? pictures.stop() : pictures.resume()));
    stream.addEventListener("lost", ({detail}) => this.lost(detail));
    stream.addEventListener("open", () => this.here());
    at("retry").addEventListener("click", () => stream.open());
    document.addEventListener("visibilitychange", () => this.seen());
  }

  show() {
    const {count, stopped} = this.pictures, waiting = stopped.length;
    at("status").dataset.on = count || waiting ? "true" : "false";
    at("stop").tabIndex = count || waiting ? 0 : -1;
    at("status-text").textContent = count ? `Drawing ${counted(count, "picture")}` : waiting ? `${counted(waiting, "picture")} stopped` : "All drawn";
    at("stop").textContent = count || !waiting ? "Stop" : "Go on";
    const text = count ? `Drawing ${counted(count, "picture")}` : waiting ? "Stopped" : "All pictures in view are drawn";
    if (Boolean(count) !== this.busy) announce(text);
    this.busy = Boolean(count);
  }

  lost(why) {
    at("gone").hidden = false;
    at("card-gone").hidden = false; // what is outside of an open card is hidden by it
    at("card-gone").textContent = at("gone-text").textContent = why === "moved"
      ? "The server was started again under another address. Open the address that it printed; your board and pictures are kept."
      : "The server cannot be reached. What is on the screen stays; the page connects again by itself.";
    document.body.dataset.server = why;
  }

  here() {
    if (document.body.dataset.server) announce("Connected again");
    at("gone").hidden = at("card-gone").hidden = true;
    delete document.body.dataset.server;
  }

  /** A page in the background that has nothing to draw needs no connection. */
  seen() {
    if (!document.hidden) this.stream.wake();
    else if (!this.pictures.pending.length) this.stream.sleep();
  }
}
