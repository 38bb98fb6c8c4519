// Models: which there are, what they are doing, and which one answers.

import { advice, follow, get, ndjson, onKey, post, Refusal } from "./api.js";
import { confirmed, field, h, say } from "./dom.js";
import { bytes, count, percent } from "./format.js";
import { failure } from "./notice.js";
import { change, settings } from "./settings.js";

const known = new Map();
const watchers = new Set();
let trouble = null;

/** The model to ask: what was chosen, else one that is loaded, else the server's default (no name). */
export function chosenModel() {
  if (known.has(settings.model)) return settings.model;
  const loaded = [...known.values()].find((model) => model.state === "loaded");
  return loaded?.id ?? [...known.keys()][0] ?? "";
}

function changed() {
  for (const watcher of watchers) watcher();
}

async function refresh() {
  try {
    const { data } = await get("/v1/models");
    known.clear();
    for (const model of data) known.set(model.id, model);
    trouble = null;
  } catch (error) {
    trouble = error;
  }
  changed();
}

let following = null;

/** Begins to follow the models' states; again when the key changes. */
export function watch() {
  const begin = async () => {
    following?.abort();
    following = new AbortController();
    const { signal } = following;
    await refresh();
    if (trouble instanceof Refusal && trouble.status < 500) return;
    follow("/v1/models/events", signal, (event) => {
      const model = known.get(event.name);
      if (!model || (event.state === "loaded" && model.state !== "loaded")) refresh();
      if (model) Object.assign(model, { state: event.state, fraction: event.fraction, replicas: event.replicas?.length ?? model.replicas });
      changed();
    });
  };
  onKey(begin);
  begin();
}

/** The choice of a model, for the head of the page. */
export function selector() {
  const select = h("select", { id: "model", "aria-label": "Model", onchange: () => change("model", select.value) });
  const draw = () => {
    const now = chosenModel();
    const options = [...known.values()].map((model) =>
      h("option", { value: model.id }, model.state === "unloaded" ? model.id : `${model.id} (${model.state})`));
    if (options.length === 0) options.push(h("option", { value: "" }, trouble ? "no model" : "…"));
    select.replaceChildren(...options);
    select.value = now;
  };
  watchers.add(draw);
  draw();
  return select;
}

export function show(view) {
  const notice = h("div");
  const list = h("div", { class: "cards" });
  const told = h("p", { class: "dim", role: "status" });
  const bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "Pulled" });
  const name = h("input", { name: "pull", placeholder: "name or address of a model", required: true, spellcheck: "false", autocomplete: "off" });
  let pulling = null;
  const button = h("button", { type: "submit" }, "Pull");
  const form = h("form", {
    class: "row end-fields", onsubmit: (event) => { event.preventDefault(); if (pulling) pulling.abort(); else pull(); },
  }, h("span", { class: "grow" }, field("Pull a model", name)), button);

  async function pull() {
    pulling = new AbortController();
    button.textContent = "Cancel";
    bar.hidden = false;
    bar.removeAttribute("value");
    try {
      for await (const line of ndjson("/api/pull", { model: name.value.trim(), stream: true }, pulling.signal)) {
        if (line.error) throw new Error(line.error);
        told.textContent = line.total ? `${line.status}: ${bytes(line.completed ?? 0)} of ${bytes(line.total)}` : line.status;
        if (line.total) bar.value = (line.completed ?? 0) / line.total;
      }
      refresh();
    } catch (error) {
      if (pulling.signal.aborted) told.textContent = "Cancelled.";
      else if (error instanceof Refusal && error.code === "unknown_route") {
        form.remove();
        told.textContent = "This server pulls no models: run “llamahome pull” beside it.";
      } else told.textContent = `It was not pulled: ${error.message} ${error instanceof Refusal ? advice(error) : ""}`;
    }
    pulling = null;
    button.textContent = "Pull";
    bar.hidden = true;
  }

  async function tell(model, order) {
    if (order === "unload" && !(await confirmed(`Unload ${model.id}? Its sessions end.`, "Unload"))) return;
    notice.replaceChildren();
    say(`${order} ${model.id}`);
    try {
      await post(`/v1/models/${encodeURIComponent(model.id)}/${order}`);
    } catch (error) {
      notice.replaceChildren(failure(error));
    }
    refresh();
  }

  function card(model) {
    const orders = { unloaded: ["load"], failed: ["load"], sleeping: ["wake", "unload"], loaded: ["sleep", "unload"], loading: [] };
    return h("article", { class: "card", "aria-label": model.id },
      h("div", { class: "row spread" }, h("h3", {}, model.id), h("span", { class: `state ${model.state}` }, model.state)),
      model.state === "loading" && h("progress", { max: 1, value: model.fraction ?? undefined, "aria-label": "Loaded" }, percent(model.fraction ?? 0)),
      model.about && h("p", { class: "dim" }, model.about),
      h("p", { class: "dim" },
        [model.max_model_len && `context ${count(model.max_model_len)}`, model.replicas > 1 && `${model.replicas} replicas`,
          model.remotes > 0 && `${model.remotes_up} of ${model.remotes} elsewhere`].filter(Boolean).join(", ")),
      h("div", { class: "row" }, (orders[model.state] ?? []).map((order) =>
        h("button", { type: "button", onclick: () => tell(model, order) }, order[0].toUpperCase() + order.slice(1)))));
  }

  const draw = () => {
    if (trouble) notice.replaceChildren(failure(trouble));
    const all = [...known.values()];
    list.replaceChildren(...(all.length ? all.map(card) : [h("p", { class: "dim" }, "No model is installed: pull one.")]));
  };
  watchers.add(draw);
  view.replaceChildren(h("div", { class: "page" }, h("h2", {}, "Models"), notice, list, form, bar, told));
  refresh();
  return () => { watchers.delete(draw); pulling?.abort(); };
}
