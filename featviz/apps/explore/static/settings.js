// The sliders and menus under the layers: seed, size, steps, parameterization and transforms of every image.

import {at, make} from "./dom.js";
import {MAX_SEED, SETTINGS} from "./state.js";

const SIZE_STEP = 8; // px

export class Settings {
  constructor(state) {
    this.state = state;
    const {limits, params, transforms} = state.about;
    const numbers = {seed: [0, MAX_SEED, 1], size: [...limits.size, SIZE_STEP], steps: [...limits.steps, 8]};
    for (const [name, [min, max, step]] of Object.entries(numbers)) Object.assign(at(name), {min, max, step});
    at("param").replaceChildren(...params.map(name => make("option", {value: name}, name)));
    const usual = state.about.defaults.transforms === null ? [make("option", {value: ""}, "default")] : [];
    at("transforms").replaceChildren(...usual, ...transforms.map(name => make("option", {value: name}, name)));
    for (const name of SETTINGS) at(name).addEventListener("change", () => this.change(name));
    for (const name of Object.keys(numbers)) at(name).addEventListener("input", () => this.write(name, at(name).value));
    at("usual").addEventListener("click", () => state.set(Object.fromEntries(SETTINGS.map(name => [name, state.about.defaults[name]])), {replace: true}));
    at("another").addEventListener("click", () => state.set({seed: (state.now.seed + 1) % (MAX_SEED + 1)}, {replace: true}));
    state.addEventListener("change", () => this.show());
    this.show();
  }

  change(name) {
    const value = at(name).value;
    this.state.set({[name]: at(name).type === "range" ? Number(value) : value || null}, {replace: true});
  }

  write(name, value) {
    at(`${name}-value`).textContent = name === "size" ? `${value} px` : value;
  }

  show() {
    const {defaults} = this.state.about;
    for (const name of SETTINGS) {
      const value = name === "size" ? Math.max(...[this.state.now.size].flat()) : this.state.now[name] ?? "";
      if (at(name) !== document.activeElement || at(name).value !== String(value)) at(name).value = value;
      if (at(`${name}-value`)) this.write(name, value);
    }
    at("usual").hidden = SETTINGS.every(name => this.state.now[name] === defaults[name]);
  }
}
