// Make elements. Text from the server always becomes text nodes: no function here parses markup.

/** Return the element with an id. */
export const at = id => document.getElementById(id);

/**
 * Make an element.
 *
 * `attributes` whose name starts with "on" are listeners, `class`, `data-…` and `aria-…` are set as they are, a value
 * of `false`, `null` or `undefined` leaves the attribute out. Strings among `children` become text.
 */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter(child => child !== null && child !== undefined && child !== false));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** Make an icon of 20 by 20 from the path of its strokes. */
export function icon(path, {filled = false} = {}) {
  const node = document.createElementNS(SVG, "svg"), line = document.createElementNS(SVG, "path");
  node.setAttribute("viewBox", "0 0 20 20");
  node.setAttribute("class", filled ? "icon filled" : "icon");
  node.setAttribute("aria-hidden", "true");
  line.setAttribute("d", path);
  node.append(line);
  return node;
}

export const ICONS = {
  star: "M10 2.8l2.2 4.6 5 .7-3.6 3.5.9 5-4.5-2.4-4.5 2.4.9-5L2.8 8.1l5-.7z",
  left: "M12.5 4.5L7 10l5.5 5.5",
  right: "M7.5 4.5L13 10l-5.5 5.5",
  close: "M5 5l10 10M15 5L5 15",
  download: "M10 3.5v9M6.3 9L10 12.7 13.7 9M4 16.5h12",
};

/** Make a small square image: its frame, which is there before the image is, and the `img`. */
export function thumbnail() {
  const img = make("img", {alt: "", width: "1", height: "1", decoding: "async"});
  return {img, frame: make("span", {class: "thumb"}, img)};
}

/** Return "1 channel" or "2 channels". */
export const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** Return a number with three significant digits, or a dash when there is none. */
export function short(number) {
  if (number === null || number === undefined || !Number.isFinite(Number(number))) return "–";
  const value = Number(number);
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
}

/** Call `run` once, `milliseconds` after the last of several calls. */
export function later(run, milliseconds) {
  let timer = 0;
  const call = (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...given), milliseconds);
  };
  call.stop = () => clearTimeout(timer);
  return call;
}

let said = 0;

/** Tell a screen reader, politely. Repeated messages within 0.4 s replace one another. */
export function announce(text) {
  clearTimeout(said);
  // what is outside of an open dialog is not read
  said = setTimeout(() => { at(at("card").open ? "card-announcer" : "announcer").textContent = text; }, 400);
}
