// Training runs: a list, and the curves of one as they grow.

import { follow, get, post } from "./api.js";
import { chart } from "./chart.js";
import { columns, confirmed, dialog, field, h, put } from "./dom.js";
import { count, duration, number, when } from "./format.js";
import { alarm, failure } from "./notice.js";

/** Between two looks at the list: milliseconds. */
const EVERY = 3000;
/** Between two drawings of the curves. */
const REDRAW = 150;
const ORDERS = {
  queued: ["stop"], running: ["pause", "save", "stop"], paused: ["resume", "stop"], stopped: ["resume"], failed: ["resume"],
  interrupted: ["resume"], finished: [],
};

/** The lines of a log as curves: `[step, value]` of what `of` finds. */
export function curve(entries, kind, of) {
  const found = [];
  for (const entry of entries) {
    const value = entry.kind === kind ? of(entry) : null;
    if (typeof value === "number") found.push([entry.step, value]);
  }
  return found;
}

export function show(view, part) {
  const abort = new AbortController();
  const notice = h("div");
  const list = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Runs" });
  const detail = h("section", { class: "detail", "aria-label": "Run" });
  let timer = null;
  let chosen = part ? decodeURIComponent(part) : null;
  let watching = null;
  view.replaceChildren(h("div", { class: "page" },
    h("div", { class: "row spread" }, h("h2", {}, "Training runs"), h("button", { type: "button", onclick: start }, "Start a run…")),
    notice, list, detail));

  const failed = (error) => notice.replaceChildren(failure(error));

  async function refresh() {
    clearTimeout(timer);
    try {
      const { data, unreadable } = await get("/v1/runs", abort.signal);
      notice.replaceChildren(...(unreadable ?? []).map((run) => h("p", { class: "notice" }, `${run.id}: ${run.error}`)));
      draw(data);
      if (!chosen && data.length > 0) open(data[0].id);
      timer = setTimeout(refresh, EVERY);
    } catch (error) {
      if (!abort.signal.aborted) failed(error);
    }
  }

  function draw(runs) {
    if (runs.length === 0) {
      list.replaceChildren(h("p", { class: "dim" }, "There are no runs yet. Start one from a recipe."));
      return;
    }
    list.replaceChildren(h("table", {},
      columns(["Run", "Stage", "Status", "Step", "Loss", "Best", "Updated"], ["Step", "Loss", "Best"]),
      h("tbody", {}, runs.map((run) => h("tr", { class: run.id === chosen ? "here" : "" },
        h("th", { scope: "row" }, h("a", { href: `#runs/${encodeURIComponent(run.id)}`, "aria-current": run.id === chosen ? "true" : undefined }, run.id)),
        h("td", {}, run.stage), h("td", {}, h("span", { class: `state ${run.status}` }, run.status)),
        h("td", { class: "to-right" }, `${count(run.step)}${run.steps ? ` / ${count(run.steps)}` : ""}`),
        h("td", { class: "to-right" }, number(run.loss, 4)), h("td", { class: "to-right" }, number(run.best, 4)),
        h("td", {}, when(run.updated)))))));
  }

  function open(id) {
    chosen = id;
    watching?.abort();
    watching = new AbortController();
    const { signal } = watching;
    const entries = [];
    let run = null;
    let due = null;
    const paint = () => { due ??= setTimeout(() => { due = null; if (!signal.aborted) drawRun(run, entries); }, REDRAW); };
    detail.replaceChildren();
    const from = () => `/v1/runs/${encodeURIComponent(id)}/events?after_step=${entries.reduce((most, entry) => Math.max(most, entry.step ?? 0), 0)}`;
    const ended = () => run && ["stopped", "failed", "finished", "interrupted"].includes(run.status);
    follow(from, signal, (event) => {
      if (event.kind === "state") run = event;
      else entries.push(event);
      paint();
    }, failed, ended);
    // The stream of a run that is over ends at once; one that is resumed later is followed again.
    const again = setInterval(() => {
      if (signal.aborted) clearInterval(again);
      else if (ended()) get(`/v1/runs/${encodeURIComponent(id)}`, signal).then((shown) => {
        if (shown.status !== run.status) open(id);
      }).catch(() => {});
    }, EVERY);
  }

  function drawRun(run, entries) {
    if (!run) return;
    const last = entries.filter((entry) => entry.kind === "step").at(-1);
    const told = entries.filter((entry) => entry.kind === "event").slice(-6);
    const sample = entries.filter((entry) => entry.kind === "sample").at(-1);
    const step = (value) => count(value);
    const charts = [
      chart([{ name: "training", kind: "a", points: curve(entries, "step", (entry) => entry.loss) },
        { name: "held back", kind: "b", points: curve(entries, "evaluation", (entry) => entry.loss), dots: true }],
      { title: "Loss, nats a token", x: step }),
    ];
    const rewards = curve(entries, "step", (entry) => entry.reward);
    if (rewards.length) {
      charts.push(chart([{ name: "training", kind: "a", points: rewards },
        { name: "held back", kind: "b", points: curve(entries, "evaluation", (entry) => entry.reward), dots: true }], { title: "Reward", x: step }));
    }
    charts.push(
      chart([{ name: "rate", kind: "c", points: curve(entries, "step", (entry) => entry.lr) }], { title: "Learning rate", x: step, zero: true }),
      chart([{ name: "norm", kind: "d", points: curve(entries, "step", (entry) => entry.grad_norm) }], { title: "Norm of the gradient", x: step, zero: true }),
      chart([{ name: "pace", kind: "e", points: curve(entries, "step", (entry) => entry.tokens_per_s) }], { title: "Tokens a second", x: step, zero: true, of: "count", y: step }));
    const names = [...new Set(entries.flatMap((entry) => (entry.kind === "evaluation" ? Object.keys(entry.tasks ?? {}) : [])))];
    if (names.length) {
      charts.push(chart(names.slice(0, 6).map((name, index) => ({
        name, kind: "abcdef"[index], dots: true, points: curve(entries, "evaluation", (entry) => entry.tasks?.[name]),
      })), { title: "Tasks", x: step }));
    }
    const focused = document.activeElement?.dataset?.order;
    put(detail,
      h("div", { class: "row spread wrap" },
        h("h3", {}, chosen), h("div", { class: "row" }, (ORDERS[run.status] ?? []).map((order) =>
          h("button", { type: "button", data: { order }, onclick: () => steer(order) }, order[0].toUpperCase() + order.slice(1))))),
      h("p", { class: "dim" }, [`${run.status}`, `step ${count(last?.step ?? run.step)}${run.steps ? ` of ${count(run.steps)}` : ""}`,
        last && `${count(last.tokens_per_s)} tokens/s`, last?.eta_s && run.status === "running" && `${duration(last.eta_s)} left`,
        run.exported && `left the model ${run.exported}`].filter(Boolean).join(", ")),
      run.reason && h("p", { class: run.status === "failed" ? "notice bad" : "notice" }, run.reason),
      h("div", { class: "charts" }, charts),
      sample && h("div", { class: "card" }, h("span", { class: "dim" }, `Sample after step ${count(sample.step)}`), h("pre", { tabindex: 0 }, `${sample.prompt}${sample.text}`)),
      told.length > 0 && h("ul", { class: "dim" }, told.map((event) => h("li", {}, `${count(event.step)}: ${event.message}`))));
    if (focused) detail.querySelector(`[data-order="${focused}"]`)?.focus();
  }

  async function steer(order) {
    if (order === "stop" && !(await confirmed(`Stop ${chosen}? It saves a checkpoint and can be resumed.`, "Stop"))) return;
    try {
      await post(`/v1/runs/${encodeURIComponent(chosen)}/${order}`);
      if (order === "resume") open(chosen);
      refresh();
    } catch (error) {
      failed(error);
    }
  }

  function start() {
    const recipe = h("textarea", { rows: 3, name: "recipe", required: true, spellcheck: "false", value: "pretrain-shakespeare" });
    const set = h("textarea", { rows: 3, name: "set", spellcheck: "false", placeholder: "horizon.steps = 200" });
    const wrong = h("div");
    const box = dialog("Start a training run", h("form", {
      class: "stack", onsubmit: async (event) => {
        event.preventDefault();
        try {
          const run = await post("/v1/runs", { recipe: recipe.value.trim(), set: overrides(set.value) });
          box.close();
          location.hash = `#runs/${encodeURIComponent(run.id)}`;
        } catch (error) {
          wrong.replaceChildren(error.code ? failure(error) : alarm(error.message));
        }
      },
    }, field("Recipe", recipe, "the name of a recipe, or one as TOML"),
    field("Changes", set, "key = value, one a line; nothing behind the = leaves a key out"), wrong,
    h("div", { class: "row end" }, h("button", { type: "submit", class: "primary" }, "Start"))));
    recipe.focus();
  }

  if (chosen) open(chosen);
  refresh();
  return () => { abort.abort(); watching?.abort(); clearTimeout(timer); };
}

/** `key = value` lines as a request has them: JSON where it is, else a text. */
export function overrides(text) {
  const found = {};
  for (const line of text.split("\n")) {
    if (line.trim() === "") continue;
    const at = line.indexOf("=");
    if (at < 1) throw new Error(`“${line.trim()}” is not key = value`);
    const value = line.slice(at + 1).trim();
    let parsed = value;
    try { parsed = value === "" ? null : JSON.parse(value); } catch { /* A text without its quotes. */ }
    found[line.slice(0, at).trim()] = parsed;
  }
  return found;
}
