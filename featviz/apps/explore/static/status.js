// What is going on: how many images are being drawn, with a button to stop them, and whether the server is there.

import {announce, at, counted, later} from "./dom.js";

const SHOWN_AFTER = 400; // ms, so that short work does not flicker

export class Status {
  constructor(stream, images) {
    Object.assign(this, {stream, images});
    const show = later(() => this.show(), SHOWN_AFTER);
    images.addEventListener("change", () => { if (!this.planned) this.planned = setTimeout(() => { this.planned = 0; this.show(); }, SHOWN_AFTER); });
    images.addEventListener("idle", show);
    at("stop").addEventListener("click", () => (this.images.pending.length ? images.stop() : images.resume()));
    stream.addEventListener("lost", ({detail}) => this.lost(detail));
    stream.addEventListener("open", () => this.here());
    at("retry").addEventListener("click", () => stream.open());
    document.addEventListener("visibilitychange", () => this.seen());
  }

  show() {
    const {count, stopped} = this.images, waiting = stopped.length;
    at("status").dataset.on = count || waiting ? "true" : "false";
    at("stop").tabIndex = count || waiting ? 0 : -1;
    at("status-text").textContent = count ? `Rendering ${counted(count, "image")}` : waiting ? `${counted(waiting, "image")} stopped` : "All rendered";
    at("stop").textContent = count || !waiting ? "Stop" : "Continue";
    const text = count ? `Rendering ${counted(count, "image")}` : waiting ? "Stopped" : "All images in view are rendered";
    if (Boolean(count) !== this.busy) announce(text);
    this.busy = Boolean(count);
  }

  lost(why) {
    at("gone").hidden = false;
    at("card-gone").hidden = false; // what is outside of an open card is hidden by it
    at("card-gone").textContent = at("gone-text").textContent = why === "moved"
      ? "The server was started again under another address. Open the address that it printed; your board and images are kept."
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
    else if (!this.images.pending.length) this.stream.sleep();
  }
}
