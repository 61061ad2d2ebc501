// The score at each step, as a line.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300, HEIGHT = 56, MARGIN = 3;

/** Return a drawing of the scores; nothing when there are fewer than two. Missing ones are left out of the line. */
export function curve(history) {
  const points = (history ?? []).map((score, step) => [step, score]).filter(([, score]) => Number.isFinite(score));
  if (points.length < 2) return null;
  const scores = points.map(([, score]) => score), low = Math.min(...scores), range = Math.max(...scores) - low || 1;
  const place = ([step, score]) => {
    const x = (WIDTH * step) / (history.length - 1), y = HEIGHT - MARGIN - ((HEIGHT - 2 * MARGIN) * (score - low)) / range;
    return `${x.toFixed(1)} ${y.toFixed(1)}`;
  };
  const svg = document.createElementNS(SVG, "svg"), line = document.createElementNS(SVG, "path");
  const attributes = {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": "Score at each step", class: "curve"};
  for (const [name, value] of Object.entries(attributes)) svg.setAttribute(name, value);
  line.setAttribute("d", `M${points.map(place).join("L")}`);
  svg.append(line);
  return svg;
}
