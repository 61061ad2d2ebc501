// Ask the server for images: one request for all that were wanted in the same moment, what is no longer wanted is
// cancelled, and what was lost with the connection is asked for again.

import * as api from "./api.js";

const GATHER = 50; // ms in which wishes are gathered for one request
const MOST = 100; // images in a request, so that it stays below the server's 64 kB
const RETRY = 1000; // ms until a full queue is asked again
const REMEMBERED = 5000; // images whose URL is kept
const EARLY = 200; // results that arrived before the answer that names them

/** One image that is wanted by at least one listener. States: new, asked, done, failed, stopped. */
class Entry {
  constructor(key, values) {
    Object.assign(this, {key, listeners: new Set(), state: "new", id: null, url: null, done: 0, steps: 0, preview: null, error: null, ...values});
  }

  get pending() {
    return this.state === "new" || this.state === "asked";
  }

  tell() {
    for (const listener of [...this.listeners]) listener(this);
  }
}

/**
 * Events: "change" when the number of pending images changed, "idle" when none is pending any more, "urgent" when a
 * image is wanted that is in view.
 */
export class Images extends EventTarget {
  constructor(stream) {
    super();
    this.stream = stream;
    this.entries = new Map(); // wanted ones by their recipe
    this.known = new Map(); // finished ones by their recipe, oldest first
    this.early = new Map();
    this.timer = 0;
    this.dropped = new Map(); // recipes that are given up, by the id of their image
    this.last = Promise.resolve(); // calls go one after another, so that a cancellation cannot overtake a later wish
    stream.addEventListener("open", () => this.askAgain());
    stream.addEventListener("progress", ({detail}) => this.progress(detail));
    stream.addEventListener("done", ({detail}) => this.finish(detail, {state: "done", url: detail.url, score: detail.score, data: detail}));
    stream.addEventListener("failed", ({detail}) => this.finish(detail, {state: "failed", error: String(detail.error)}));
  }

  /** Images that are wanted and not there. */
  get pending() {
    return [...this.entries.values()].filter(entry => entry.pending);
  }

  /** Number of different things that are pending: a draft and its final image count once. */
  get count() {
    return new Set(this.pending.map(({key, recipe}) => (recipe ? `${recipe.objective} ${recipe.seed}` : key))).size;
  }

  get stopped() {
    return [...this.entries.values()].filter(entry => entry.state === "stopped");
  }

  /**
   * Ask for an image.
   *
   * @param recipe The objective and its settings, as the server takes them.
   * @param how `group`: name of the layer, requests are grouped by it; `soon`: it is not in view yet; `live`: send
   *   previews.
   * @param listener Called with the entry at each change, and at once when the image is known.
   * @returns A function that gives the image up.
   */
  want(recipe, {group = "", soon = false, live = false}, listener) {
    const key = JSON.stringify(recipe);
    const known = this.known.get(key);
    if (known) {
      listener(known);
      return () => {};
    }
    return this.join(key, {recipe, group, soon, live}, listener);
  }

  /** Like `want` for a call of its own, such as a dream; `post` takes the id of the stream and gives the answer. */
  run(key, post, listener) {
    return this.join(key, {post, group: "", soon: false, live: true}, listener);
  }

  join(key, values, listener) {
    let entry = this.entries.get(key);
    if (!entry) this.entries.set(key, (entry = new Entry(key, values)));
    else if (entry.state === "failed" || entry.state === "stopped") entry.state = "new";
    if ((entry.soon && !values.soon) || (values.live && !entry.live)) { // asked once more, as more urgent
      Object.assign(entry, {soon: false, live: entry.live || values.live});
      if (entry.pending) entry.state = "new";
    }
    entry.listeners.add(listener);
    listener(entry);
    if (!values.soon && entry.state === "new") this.dispatchEvent(new Event("urgent"));
    this.plan();
    return () => this.leave(entry, listener);
  }

  leave(entry, listener) {
    if (!entry.listeners.delete(listener) || entry.listeners.size) return;
    if (this.entries.get(entry.key) === entry) this.entries.delete(entry.key);
    if (entry.state === "asked") this.dropped.set(entry.id, entry.key);
    this.plan();
  }

  plan(wait = GATHER) {
    if (!this.timer) this.timer = setTimeout(() => { this.timer = 0; this.send(); }, wait);
    this.dispatchEvent(new Event("change"));
  }

  send() {
    const page = this.stream.id;
    if (!page) return; // "open" asks for everything
    const wanted = new Set([...this.entries.values()].map(entry => entry.id));
    const dropped = [...this.dropped].filter(([id, key]) => id && !wanted.has(id) && !this.entries.has(key)).map(([id]) => id);
    this.dropped.clear();
    if (dropped.length) this.queue(() => api.cancel(page, dropped)).catch(() => {}); // without a connection nothing runs
    const groups = Map.groupBy(this.pending.filter(entry => entry.state === "new"), entry =>
      entry.post ? entry.key : JSON.stringify([entry.group, entry.soon, entry.recipe.size, entry.recipe.steps]));
    for (const all of groups.values())
      for (let first = 0; first < all.length; first += MOST) this.post(page, all.slice(first, first + MOST));
  }

  queue(run) {
    const answer = this.last.then(run);
    this.last = answer.catch(() => {}); // the next call does not depend on this one
    return answer;
  }

  async post(page, entries) {
    for (const entry of entries) Object.assign(entry, {state: "asked", asked: performance.now()});
    const [{post, soon}] = entries, wanted = entries.map(({recipe, live}) => (live ? {...recipe, live} : recipe));
    let answer;
    try {
      answer = await this.queue(() => (post ? post(page) : api.images(page, wanted, soon ? "soon" : "visible")));
    } catch (error) {
      this.refused(entries, error);
      return;
    }
    const images = answer.images || [answer];
    entries.forEach((entry, i) => this.answered(entry, images[i] || {}, page));
    this.dispatchEvent(new Event("change"));
  }

  answered(entry, image, page) {
    const {id, state, url, error} = image;
    if (error) this.settle(entry, {state: "failed", error: String(error)});
    else if (state === "done" || url) this.settle(entry, {id, state: "done", url, score: image.score, data: image});
    else if (entry.state !== "asked" || page !== this.stream.id) return; // stopped, or asked again since
    else {
      entry.id = id;
      const early = this.early.get(id);
      if (early && early.at >= entry.asked) this.settle(entry, early.values);
      else if (this.entries.get(entry.key) === entry) entry.tell();
      else { // given up in the meantime
        this.dropped.set(id, entry.key);
        this.plan();
      }
    }
  }

  refused(entries, error) {
    const passing = error.passing;
    for (const entry of entries) {
      if (passing && entry.state === "asked") entry.state = "new";
      else if (!passing) this.settle(entry, {state: "failed", error: error.message, position: error.position});
    }
    if (error.status === 409) this.stream.again();
    else if (passing && !error.offline) this.plan(RETRY);
  }

  askAgain() {
    this.early.clear();
    for (const entry of this.entries.values()) if (entry.state === "asked") entry.state = "new";
    this.send();
  }

  progress({id, done, steps, preview}) {
    for (const entry of this.entries.values()) {
      if (entry.id !== id || entry.state !== "asked") continue;
      Object.assign(entry, {done, steps, preview: preview || entry.preview});
      entry.tell();
    }
  }

  finish({id}, values) {
    this.early.set(id, {values, at: performance.now()});
    if (this.early.size > EARLY) this.early.delete(this.early.keys().next().value);
    for (const entry of [...this.entries.values()]) if (entry.id === id && entry.state === "asked") this.settle(entry, values);
  }

  settle(entry, values) {
    Object.assign(entry, values, {preview: null});
    if (entry.state === "done" && entry.recipe) {
      const {id, url, score, state} = entry;
      this.known.set(entry.key, {id, url, score, state});
      if (this.known.size > REMEMBERED) this.known.delete(this.known.keys().next().value);
    }
    entry.tell();
    if (entry.state === "done") this.entries.delete(entry.key);
    this.dispatchEvent(new Event("change"));
    if (!this.pending.length) this.dispatchEvent(new Event("idle"));
  }

  /** Stop all work. What was wanted stays listed, for `resume`. */
  stop() {
    for (const entry of this.pending) {
      entry.state = "stopped";
      entry.tell();
    }
    const page = this.stream.id;
    if (page) this.queue(() => api.cancel(page, null)).catch(() => {}); // without a connection nothing runs
    this.dispatchEvent(new Event("change"));
  }

  resume() {
    for (const entry of this.stopped) {
      entry.state = "new";
      entry.tell();
    }
    this.plan();
  }
}
