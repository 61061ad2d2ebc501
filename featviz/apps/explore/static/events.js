// The stream of server-sent events. It opens again by itself; each time with a new id, so that what is left of
// an old stream on the server is never mistaken for this one.

import {reachable} from "./api.js";

const KINDS = ["progress", "done", "failed", "unit"];
const FIRST_WAIT = 500, LONGEST_WAIT = 4000; // ms between attempts

function freshId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Events: "open" when the server has said hello; "lost" with `detail` "gone" or "moved"; "progress", "done" and
 * "failed" of an image, and "unit" when more is known about a layer, with the server's data as `detail`.
 */
export class Stream extends EventTarget {
  constructor() {
    super();
    this.id = null; // of the open stream; null while there is none
    this.source = null;
    this.wait = FIRST_WAIT;
    this.timer = 0;
    this.sleeping = false;
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", event => event.persisted && this.open());
  }

  open() {
    this.close();
    this.sleeping = false;
    const id = freshId(), source = new EventSource(`./api/events?page=${id}`);
    this.source = source;
    source.addEventListener("hello", () => {
      this.id = id;
      this.wait = FIRST_WAIT;
      this.dispatchEvent(new Event("open"));
    });
    for (const kind of KINDS)
      source.addEventListener(kind, event => this.dispatchEvent(new CustomEvent(kind, {detail: JSON.parse(event.data)})));
    source.addEventListener("error", () => this.source === source && this.lost());
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = this.id = null;
  }

  /** Close the stream while nobody looks and nothing is being drawn: browsers allow six connections to a host. */
  sleep() {
    if (!this.id) return;
    this.close();
    this.sleeping = true;
  }

  wake() {
    if (this.sleeping || !this.id) this.open();
  }

  /** Open again at once, since the server does not know the id of the stream. */
  again() {
    if (this.source && !this.id) return; // on its way
    this.open();
  }

  async lost() {
    this.close();
    const attempt = (this.timer = setTimeout(() => this.open(), this.wait));
    this.wait = Math.min(LONGEST_WAIT, this.wait * 2);
    const why = await reachable();
    if (this.timer === attempt && !this.id) this.dispatchEvent(new CustomEvent("lost", {detail: why}));
  }
}
