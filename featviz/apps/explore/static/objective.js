// The view of a typed objective: its image is seen forming, and images from other seeds stand below it.

import {at, make, thumbnail} from "./dom.js";
import {ObjectiveBox} from "./completion.js";
import {Plate} from "./plate.js";
import {MAX_SEED, drafted, recipe} from "./state.js";

const SEEDS = 4; // images from other seeds

export class ObjectiveView {
  constructor(state, images, board, drafts) {
    Object.assign(this, {state, images, drafts, leave: [], shown: null});
    this.plate = new Plate(images, board);
    at("objective-plate").append(this.plate.figure);
    at("objective-actions").append(this.plate.facts, this.plate.actions);
    this.box = new ObjectiveBox(at("objective"), objective => this.open(objective));
    at("objective-edit").addEventListener("click", () => {
      at("objective").value = this.state.now.objective;
      at("objective").focus();
    });
  }

  open(objective, settings = {}) {
    this.state.set({view: "objective", objective, channel: null, ...settings});
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
    this.plate.show(recipe(objective, settings), {name: objective});
    const seeds = Array.from({length: SEEDS}, (_, i) => (seed + i + 1) % (MAX_SEED + 1));
    at("seeds").replaceChildren(...seeds.map(other => this.seed(objective, other)));
  }

  seed(objective, seed) {
    const {settings} = this.state, {img, frame} = thumbnail();
    const button = make("button", {type: "button"}, frame, make("span", {}, `Seed ${seed}`));
    button.addEventListener("click", () => this.state.set({seed}));
    const small = recipe(objective, {...drafted(settings, this.drafts), seed});
    this.leave.push(this.images.want(small, {group: "seeds", soon: true}, ({state, url}) => {
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
