// Lines over an axis, as SVG. Pure but for the elements.

import { h, s } from "./dom.js";
import { number } from "./format.js";

const WIDTH = 640;
const HEIGHT = 200;
const LEFT = 64;
const RIGHT = 12;
const TOP = 10;
const BELOW = 24;
/** Points that are drawn of a line at most. */
const MOST = 600;

/** Round values from `low` to `high`, about `wanted` of them: whole ones of bytes or of things that are counted. */
export function ticks(low, high, wanted, of = "") {
  if (!(high > low)) return [low];
  if (of === "bytes") {
    const unit = 1024 ** Math.max(0, Math.floor(Math.log2(high / 2) / 10));
    return ticks(low / unit, high / unit, wanted, unit === 1 ? "count" : "").map((value) => value * unit);
  }
  const rough = Math.max((high - low) / wanted, of === "count" ? 1 : 0);
  const scale = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * scale).find((each) => each >= rough);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at += 1) found.push(Number((at * step).toPrecision(12)));
  return found;
}

/** At most `most` of the points: of each stretch those with the least and the greatest value, so that no peak is lost. */
export function thinned(points, most = MOST) {
  if (points.length <= most) return points;
  const width = points.length / (most / 2);
  const found = [];
  for (let from = 0; from < points.length; from += width) {
    const part = points.slice(Math.floor(from), Math.floor(from + width));
    if (part.length === 0) continue;
    let low = 0, high = 0;
    part.forEach((point, index) => {
      if (point[1] < part[low][1]) low = index;
      if (point[1] > part[high][1]) high = index;
    });
    for (const index of [...new Set([Math.min(low, high), Math.max(low, high)])]) found.push(part[index]);
  }
  return found;
}

/**
 * A chart. `lines` are `{ name, points: [[x, y]], kind }`, the kind a class of colour (`a` to `f`), dots where `dots` is set.
 * `options`: `title`, `x` and `y` write values, `of` is what ticks count (see `ticks`), `zero` has the axis begin at 0, `most`
 * is its least end, `from` where the other begins at the latest.
 */
export function chart(lines, options = {}) {
  const { title, x = number, y = number, of = "", zero = false, most, from } = options;
  const drawn = lines.map((line) => ({ ...line, points: thinned(line.points.filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b))) }))
    .filter((line) => line.points.length > 0);
  const last = drawn.map((line) => `${line.name} ${y(line.points.at(-1)[1])}`).join(", ");
  const figure = h("figure", { class: "chart" },
    h("figcaption", {}, h("span", {}, title),
      drawn.map((line) => h("span", { class: `key ${line.kind}` }, line.name, h("b", {}, ` ${y(line.points.at(-1)[1])}`)))));
  if (drawn.length === 0) {
    figure.append(h("p", { class: "dim" }, "Nothing to draw yet."));
    return figure;
  }
  const all = drawn.flatMap((line) => line.points);
  const xs = all.map(([value]) => value);
  const ys = all.map(([, value]) => value);
  let [x0, x1] = [Math.min(...xs, from ?? Infinity), Math.max(...xs)];
  let [y0, y1] = [zero ? 0 : Math.min(...ys), Math.max(...ys, most ?? -Infinity)];
  if (x1 === x0) { x0 -= 1; x1 += 1; }
  if (y1 === y0) { y1 += Math.abs(y1) * 0.1 || 1; if (!zero) y0 -= Math.abs(y0) * 0.1 || 1; }
  const across = (value) => LEFT + ((value - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const up = (value) => TOP + (1 - (value - y0) / (y1 - y0)) * (HEIGHT - TOP - BELOW);
  const at = (value) => value.toFixed(1);
  const area = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title ?? "Chart"}: ${last}` });
  for (const value of ticks(y0, y1, 4, of)) {
    area.append(s("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: at(up(value)), y2: at(up(value)) }),
      s("text", { x: LEFT - 6, y: at(up(value) + 4), "text-anchor": "end" }, y(value)));
  }
  for (const value of ticks(x0, x1, 5, x0 >= 0 && x1 <= 1 ? "" : "count")) {
    area.append(s("text", { x: at(across(value)), y: HEIGHT - 6, "text-anchor": value === x1 ? "end" : "middle" }, x(value)));
  }
  for (const line of drawn) {
    const points = line.points.map(([a, b]) => `${at(across(a))},${at(up(b))}`);
    area.append(s("polyline", { class: `line ${line.kind}`, points: points.join(" ") }));
    if (line.dots || points.length === 1) {
      for (const [a, b] of line.points) {
        area.append(s("circle", { class: `dot ${line.kind}`, cx: at(across(a)), cy: at(up(b)), r: 3 }, s("title", {}, `${line.name} ${x(a)}: ${y(b)}`)));
      }
    }
  }
  figure.append(area);
  return figure;
}
