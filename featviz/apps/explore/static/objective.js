// The view of a typed objective: its picture is seen forming, and pictures from other seeds stand below it.

import {at, make} from "./dom.js";
import {ObjectiveBox} from "./completion.js";
import {Plate} from "./plate.js";
import {MAX_SEED} from "./state.js";

const SEEDS = 4; // pictures from other seeds

export class ObjectiveView {
  constructor(state, pictures, board, drafts) {
    Object.assign(this, {state, pictures, drafts, leave: [], shown: null});
    this.plate = new Plate(pictures, board);
    at("objective-plate").append(this.plate.figure);
    at("objective-actions").append(this.plate.facts, this.plate.actions);
    this.box = new ObjectiveBox(at("objective"), objective => this.open(objective));
    at("objective-edit").addEventListener("click", () => {
      at("objective").value = this.state.now.objective;
      at("objective").focus();
    });
  }

  open(objective) {
    this.state.set({view: "objective", objective, channel: null});
    at("objective-title").focus();
  }

  show() {
    const {objective, seed} = this.state.now, {settings} = this.state;
    const key = JSON.stringify([objective, settings]);
    if (key === this.shown) return;
    this.hide();
    this.shown = key;
    at("objective-title").textContent = objective || "No objective yet";
    at("objective-body").hidden = !objective;
    if (!objective) return;
    this.plate.show({objective, ...settings, start: null}, {name: objective});
    const seeds = Array.from({length: SEEDS}, (_, i) => (seed + i + 1) % (MAX_SEED + 1));
    at("seeds").replaceChildren(...seeds.map(other => this.seed(objective, other)));
  }

  seed(objective, seed) {
    const {settings} = this.state, img = make("img", {alt: "", width: "1", height: "1"});
    const button = make("button", {type: "button"}, img, make("span", {}, `Seed ${seed}`));
    button.addEventListener("click", () => this.state.set({seed}));
    const {size, steps} = this.drafts;
    const recipe = {objective, ...settings, seed, size: Math.min(size, settings.size), steps: Math.min(steps, settings.steps), start: null};
    this.leave.push(this.pictures.want(recipe, {group: "seeds", soon: true}, ({state, url}) => {
      button.dataset.state = state;
      if (state === "done") img.src = url;
    }));
    return make("li", {}, button);
  }

  hide() {
    this.shown = null;
    this.plate.clear();
    this.leave.forEach(run => run());
    this.leave = [];
  }
}
