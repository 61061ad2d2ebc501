// What is on the screen, kept in the fragment of the address: reload, Back and a copied link lead to the same view.

export const VIEWS = ["layer", "objective", "photograph", "board"];
export const SETTINGS = ["seed", "size", "steps", "param", "transforms"];
export const MAX_SEED = 999;

const whole = (text, low, high, otherwise) => {
  const number = /^\d{1,9}$/.test(text ?? "") ? Number(text) : NaN;
  return number >= low && number <= high ? number : otherwise;
};

/** Event "change" has `detail` `{before, now, changed}`; `changed(...names)` tells whether one of the values differs. */
export class State extends EventTarget {
  /**
   * @param about The server's answer of the same name, with the layer of the classes added.
   * @param first The layer to show when the address names none.
   */
  constructor(about, first) {
    super();
    this.about = about;
    this.first = first;
    this.now = this.read();
    addEventListener("popstate", () => this.move(this.read()));
  }

  get settings() {
    return Object.fromEntries(SETTINGS.map(name => [name, this.now[name]]));
  }

  /** The layer on the screen. */
  get layer() {
    return this.about.layers.find(layer => layer.name === this.now.layer);
  }

  /** Read the address. What it does not say, or says wrongly, gets its default. */
  read() {
    const {layers, defaults, limits, params, transforms} = this.about;
    const given = new URLSearchParams(location.hash.slice(1)), one = (name, known) => known.includes(given.get(name)) ? given.get(name) : null;
    const layer = layers.find(layer => layer.name === given.get("layer")) || this.first;
    return {
      view: one("view", VIEWS) || "layer",
      layer: layer.name,
      channel: whole(given.get("channel"), 0, layer.channels - 1, null),
      objective: given.get("objective") || "",
      photograph: given.get("photograph") || "",
      seed: whole(given.get("seed"), 0, MAX_SEED, defaults.seed),
      size: whole(given.get("size"), ...limits.size, defaults.size),
      steps: whole(given.get("steps"), ...limits.steps, defaults.steps),
      param: one("param", params) || defaults.param,
      transforms: one("transforms", transforms) ?? defaults.transforms, // null: what suits the parameterization
    };
  }

  /** Change some values. `replace` keeps Back from stopping here. */
  set(values, {replace = false} = {}) {
    const now = {...this.now, ...values};
    const parts = new URLSearchParams();
    for (const [name, value] of Object.entries(now)) {
      const usual = name === "view" ? "layer" : this.about.defaults[name];
      if (value !== null && value !== "" && value !== usual) parts.set(name, value);
    }
    const hash = `#${parts}`;
    if (hash !== location.hash) history[replace ? "replaceState" : "pushState"](null, "", hash);
    this.move(now);
  }

  move(now) {
    const before = this.now;
    const changed = (...names) => names.some(name => before[name] !== now[name]);
    if (!changed(...Object.keys(now))) return;
    this.now = now;
    this.dispatchEvent(new CustomEvent("change", {detail: {before, now, changed}}));
  }
}

/** Return the recipe of an objective under some settings. */
export const recipe = (objective, settings, more = {}) => ({objective, ...settings, start: null, ...more});

/** Return settings of a quick first image: at most the steps and the longer side of `drafts`. */
export function drafted(settings, drafts) {
  const sides = [settings.size].flat(), share = Math.min(1, drafts.size / Math.max(...sides));
  const small = sides.map(side => Math.round(side * share));
  return {...settings, size: small.length > 1 ? small : small[0], steps: Math.min(settings.steps, drafts.steps)};
}

/** Return the text of a unit's address; names with other signs than letters, digits, "_" and "." are quoted. */
export function address(layer, channel) {
  const name = /^[A-Za-z0-9_.]+(#[0-9]+)?~?$/.test(layer) ? layer : JSON.stringify(layer);
  return `${name}${name.endsWith("~") ? "" : ":"}${channel}`;  // the features of a dictionary are layer~5
}
