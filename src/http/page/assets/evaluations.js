// Evaluations: what bounding the cache costs, as measured by `llamahome eval`.

import { get } from "./api.js";
import { chart } from "./chart.js";
import { columns, h } from "./dom.js";
import { number, percent, when } from "./format.js";
import { alarm, failure } from "./notice.js";

/** What a task reports, first to last choice, and how it is called. */
const METRICS = [["accuracy", "accuracy"], ["perplexity", "perplexity"], ["kl", "KL divergence from full attention, nats a token"],
  ["mean_nll", "negative log-likelihood, nats a token"]];

const NUMBERS = ["Kept", "Length", "Depth", "Accuracy", "Perplexity", "NLL", "KL"];

/**
 * The rows of one evaluation as charts: a task each, the mean of its figure over lengths and depths by the share of the
 * cache that is kept, a line a policy. Full attention keeps all of it.
 */
export function charts(rows) {
  return [...new Set(rows.map((row) => row.task))].map((task) => {
    const own = rows.filter((row) => row.task === task);
    const [metric, label] = METRICS.find(([name]) => own.some((row) => typeof row[name] === "number")) ?? METRICS[0];
    const lines = [...new Set(own.map((row) => row.policy))].map((policy) => {
      const sums = new Map();
      for (const row of own) {
        if (row.policy !== policy || typeof row[metric] !== "number") continue;
        const at = row.budget ?? 1;
        const [sum, count] = sums.get(at) ?? [0, 0];
        sums.set(at, [sum + row[metric], count + 1]);
      }
      const points = [...sums].map(([at, [sum, count]]) => [at, sum / count]).sort((a, b) => a[0] - b[0]);
      return { policy, points };
    });
    return { task, metric, label, lines };
  });
}

export function show(view, part) {
  const abort = new AbortController();
  const notice = h("div");
  const list = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Evaluations" });
  const detail = h("section", { class: "detail", "aria-label": "Evaluation" });
  const input = h("input", {
    type: "file", accept: "application/json,.json", "aria-label": "Open a results.json",
    onchange: async () => {
      try {
        draw(JSON.parse(await input.files[0].text()));
        notice.replaceChildren();
      } catch (error) {
        notice.replaceChildren(alarm(`This is not a results.json of llamahome eval: ${error.message}`));
      }
    },
  });
  view.replaceChildren(h("div", { class: "page" },
    h("div", { class: "row spread wrap" }, h("h2", {}, "Evaluations"), h("label", { class: "row wrap" }, h("span", { class: "dim" }, "Open a file"), input)),
    notice, list, detail));

  function draw(results) {
    if (!Array.isArray(results?.rows)) throw new Error("it has no rows");
    const kinds = "abcdef";
    const policies = [...new Set(results.rows.map((row) => row.policy))];
    detail.replaceChildren(
      h("h3", {}, results.model), h("p", { class: "dim" }, h("code", {}, results.command), ` · ${results.samples} samples a cell · version ${results.version}`),
      h("div", { class: "charts" }, charts(results.rows).map(({ task, metric, label, lines }) => chart(
        lines.map(({ policy, points }) => ({ name: policy, kind: kinds[policies.indexOf(policy) % kinds.length], points, dots: true })),
        { title: `${task}: ${label}`, x: percent, from: 0, y: metric === "accuracy" ? percent : number, zero: metric === "accuracy", most: metric === "accuracy" ? 1 : undefined }))),
      h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Rows" }, h("table", {},
        columns(["Task", "Policy", ...NUMBERS], NUMBERS),
        h("tbody", {}, results.rows.map((row) => h("tr", {},
          h("th", { scope: "row" }, row.task), h("td", {}, row.policy),
          [percent(row.budget ?? 1), row.length ?? "–", percent(row.depth), percent(row.accuracy), number(row.perplexity), number(row.mean_nll), number(row.kl)]
            .map((text) => h("td", { class: "to-right" }, text))))))));
  }

  async function open(id) {
    try {
      draw(await get(`/v1/evaluations/${encodeURIComponent(id)}`, abort.signal));
    } catch (error) {
      if (!abort.signal.aborted) failed(error);
    }
  }

  function failed(error) {
    notice.replaceChildren(failure(error));
  }

  async function refresh() {
    try {
      const { data } = await get("/v1/evaluations", abort.signal);
      if (data.length === 0) {
        list.replaceChildren(h("p", { class: "dim" }, "No evaluation is kept yet: run “llamahome eval”, or open a results.json."));
        return;
      }
      const chosen = part ? decodeURIComponent(part) : data[0].id;
      list.replaceChildren(h("table", {},
        columns(["Evaluation", "Model", "Tasks", "When"], []),
        h("tbody", {}, data.map((each) => h("tr", { class: each.id === chosen ? "here" : "" },
          h("th", { scope: "row" }, h("a", { href: `#evaluations/${encodeURIComponent(each.id)}`, "aria-current": each.id === chosen ? "true" : undefined }, each.id)),
          h("td", {}, each.model), h("td", {}, each.tasks.join(", ")), h("td", {}, when(each.created)))))));
      await open(chosen);
    } catch (error) {
      if (!abort.signal.aborted) failed(error);
    }
  }

  refresh();
  return () => abort.abort();
}
