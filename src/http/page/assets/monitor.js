// What the machine and the engines are doing, second by second.

import { follow } from "./api.js";
import { chart } from "./chart.js";
import { columns, h } from "./dom.js";
import { bytes, count, duration, percent } from "./format.js";
import { failure } from "./notice.js";

/** Samples that are drawn. */
const KEPT = 300;

const NUMBERS = ["Running", "Waiting", "KV", "Weights", "Read", "Cached", "Generated"];

const history = [];

/** Tokens a second between two reports, by all models; a model that was loaded anew counts from nothing. */
export function rates(before, after) {
  const seconds = after.time - before.time;
  if (!(seconds > 0)) return { read: 0, generated: 0 };
  let read = 0, generated = 0;
  for (const model of after.models) {
    const old = before.models.find((each) => each.name === model.name)?.tokens ?? { read: 0, cached: 0, generated: 0 };
    const since = (name) => (model.tokens[name] >= old[name] ? model.tokens[name] - old[name] : model.tokens[name]);
    read += Math.max(0, since("read") - since("cached"));
    generated += since("generated");
  }
  return { read: read / seconds, generated: generated / seconds };
}

/** A number with a bar. */
function tile(name, text, share, detail) {
  return h("div", { class: "tile" },
    h("span", { class: "dim" }, name), h("b", {}, text),
    share !== undefined && h("meter", { min: 0, max: 1, high: 0.9, value: Math.min(1, share || 0), "aria-label": `${name}: ${text}` }),
    detail && h("small", {}, detail));
}

export function show(view) {
  const abort = new AbortController();
  const notice = h("div");
  const tiles = h("div", { class: "tiles" });
  const charts = h("div", { class: "charts" });
  const models = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Engines" });
  view.replaceChildren(h("div", { class: "page" }, h("h2", {}, "Monitor"), notice, tiles, charts, h("h3", {}, "Engines"), models));

  function draw(report) {
    notice.replaceChildren();
    const last = history.at(-1);
    const rate = last ? rates(last.report, report) : { read: 0, generated: 0 };
    history.push({ report, rate });
    if (history.length > KEPT) history.shift();
    const sum = (name) => report.models.reduce((total, model) => total + model[name], 0);
    const machine = report.machine;
    tiles.replaceChildren(
      tile("Running", count(sum("running")), undefined, `${count(sum("waiting"))} waiting`),
      tile("Generating", `${rate.generated.toFixed(1)} tokens/s`, undefined, `reading ${rate.read.toFixed(0)} tokens/s`),
      tile("KV cache", bytes(report.kv.bytes), report.kv.bytes / report.kv.total_bytes, `of ${bytes(report.kv.total_bytes)}`),
      ...(machine ? [
        tile("Memory", bytes(machine.memory_used), machine.memory_used / machine.memory_limit,
          `of ${bytes(machine.memory_limit)}; this process ${bytes(machine.process_bytes)}`),
        tile("CPU", percent(machine.cpu_ratio), machine.cpu_ratio, "of the cores that the process may use"),
        ...(machine.gpus.length ? machine.gpus.map((gpu) => tile(`GPU ${gpu.index}`, percent(gpu.busy_ratio), gpu.busy_ratio,
          `${gpu.name}, ${bytes(gpu.memory_used)} of ${bytes(gpu.memory_total)}`)) : [tile("GPU", "none")]),
        tile("Disk", bytes(machine.disk_free), undefined, "free"),
      ] : []),
      tile("Up", duration(report.uptime_s), undefined, report.draining ? "stopping" : undefined));
    const line = (name, kind, of) => ({
      name, kind,
      points: history.map((each) => [each.report.time - report.time, of(each)]),
    });
    const ago = (value) => (value === 0 ? "now" : `${value.toFixed(0)} s`);
    charts.replaceChildren(
      chart([line("generated", "a", (each) => each.rate.generated), line("read", "b", (each) => each.rate.read)],
        { title: "Tokens a second", x: ago, from: -60, zero: true, most: 4, of: "count", y: (value) => count(value) }),
      chart([line("KV cache", "a", (each) => each.report.kv.bytes)], { title: "Bytes of keys and values", x: ago, from: -60, zero: true, most: 1 << 20, of: "bytes", y: bytes }),
      chart([line("running", "a", (each) => each.report.models.reduce((total, model) => total + model.running, 0)),
        line("waiting", "b", (each) => each.report.models.reduce((total, model) => total + model.waiting, 0))],
      { title: "Requests", x: ago, from: -60, zero: true, most: 4, of: "count", y: (value) => count(value) }),
      chart([line("process", "a", (each) => each.report.machine?.process_bytes ?? NaN)], { title: "Memory of the process", x: ago, from: -60, zero: true, of: "bytes", y: bytes }));
    models.replaceChildren(report.models.length === 0 ? h("p", { class: "dim" }, "No model is loaded.") : h("table", {},
      columns(["Model", ...NUMBERS], NUMBERS),
      h("tbody", {}, report.models.map((model) => h("tr", {},
        h("th", { scope: "row" }, model.name), [model.running, model.waiting].map((value) => h("td", { class: "to-right" }, count(value))),
        [model.kv_bytes, model.weight_bytes].map((value) => h("td", { class: "to-right" }, bytes(value))),
        [model.tokens.read, model.tokens.cached, model.tokens.generated].map((value) => h("td", { class: "to-right" }, count(value))))))));
  }

  follow("/v1/monitor/events", abort.signal, draw,
    (error) => notice.replaceChildren(failure(error)));
  return () => abort.abort();
}
