// How answers are asked for: kept in localStorage, sent with each request. What is empty is left to the server.

import { h, field } from "./dom.js";

const PLACE = "llamahome.settings";

export const POLICIES = ["full", "window", "streaming", "h2o", "tova", "snapkv", "pyramid", "adasnap", "keydiff", "expected",
  "quest", "hybrid"];

const BLANK = {
  model: "", system: "", temperature: "", top_p: "", max_tokens: "", seed: "",
  policy: "", budget: "", heavy: "", recent: "", keep: true, theme: "auto", panel: "",
};

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(PLACE) ?? "{}");
    return Object.fromEntries(Object.entries(BLANK).map(([name, value]) => {
      const fits = typeof kept[name] === typeof value;
      return [name, fits ? kept[name] : value];
    }));
  } catch {
    return { ...BLANK };
  }
}

export const settings = read();

export function change(name, value) {
  settings[name] = value;
  try { localStorage.setItem(PLACE, JSON.stringify(settings)); } catch { /* They last as long as the page. */ }
}

export function applyTheme() {
  const root = document.documentElement;
  if (settings.theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = settings.theme;
}

function numeric(text) {
  return text.trim() === "" ? undefined : Number(text);
}

/** The `kv` of a request, if anything of it is set. A budget is a number of tokens, a share or bytes. */
export function kv() {
  const budget = settings.budget.trim();
  const wanted = {
    policy: settings.policy || undefined,
    budget: budget === "" ? undefined : /^\d+$/.test(budget) ? Number(budget) : budget,
    heavy: numeric(settings.heavy),
    recent: numeric(settings.recent),
  };
  return Object.values(wanted).some((value) => value !== undefined) ? wanted : undefined;
}

/** The fields of a request that the settings decide. */
export function fields() {
  return {
    temperature: numeric(settings.temperature),
    top_p: numeric(settings.top_p),
    max_tokens: numeric(settings.max_tokens),
    seed: numeric(settings.seed),
    kv: kv(),
  };
}

/** The panel. */
export function panel() {
  const text = (name, props) => h("input", {
    value: settings[name], name, ...props,
    oninput: (event) => change(name, event.target.validity.valid ? event.target.value : ""),
  });
  const number = (name, min, max, step, placeholder) =>
    text(name, { type: "number", min, max, step, placeholder, inputmode: "decimal" });
  const usual = "as the server";
  return h("div", { class: "stack" },
    field("System prompt", h("textarea", {
      rows: 4, name: "system", value: settings.system, oninput: (event) => change("system", event.target.value),
    })),
    h("div", { class: "pair" },
      field("Temperature", number("temperature", 0, 2, 0.05, usual)),
      field("Top p", number("top_p", 0, 1, 0.01, usual)),
      field("Longest answer", number("max_tokens", 1, undefined, 1, usual)),
      field("Seed", number("seed", 0, undefined, 1, "random"))),
    h("fieldset", {},
      h("legend", {}, "KV cache"),
      field("Policy", h("select", { name: "policy", value: settings.policy, onchange: (event) => change("policy", event.target.value) },
        h("option", { value: "" }, usual),
        POLICIES.map((name) => h("option", { value: name }, name)))),
      field("Budget", text("budget", { placeholder: usual, spellcheck: "false" }), "tokens a head (256), a share (25%) or bytes (64MiB)"),
      h("div", { class: "pair" },
        field("Heavy", number("heavy", 0, undefined, 1, usual)),
        field("Recent", number("recent", 0, undefined, 1, usual))),
      h("label", { class: "check" },
        h("input", { type: "checkbox", name: "keep", checked: settings.keep, onchange: (event) => change("keep", event.target.checked) }),
        "Keep the cache between turns"),
      h("small", {}, "Each turn then reads only what is new, and the cache can be looked at.")),
    field("Colours", h("select", {
      name: "theme", value: settings.theme,
      onchange: (event) => { change("theme", event.target.value); applyTheme(); },
    }, h("option", { value: "auto" }, "as the system"), h("option", { value: "light" }, "light"), h("option", { value: "dark" }, "dark"))));
}
