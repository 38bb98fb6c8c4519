// The views and the keys that work everywhere.

import { key as apiKey, setKey } from "./api.js";
import * as chat from "./chat.js";
import { dialog, field, h } from "./dom.js";
import * as evaluations from "./evaluations.js";
import * as models from "./models.js";
import * as monitor from "./monitor.js";
import * as runs from "./runs.js";
import { applyTheme } from "./settings.js";

const VIEWS = [
  ["chat", "Chat", chat], ["models", "Models", models], ["monitor", "Monitor", monitor], ["runs", "Runs", runs],
  ["evaluations", "Evaluations", evaluations],
];

const view = document.getElementById("view");
const links = VIEWS.map(([name, label], index) => h("a", { href: `#${name}`, title: `Alt+${index + 1}`, data: { view: name } }, label));
let leave = null;
let turn = 0;

async function route() {
  const mine = ++turn;
  const [name, part] = location.hash.replace(/^#/, "").split("/");
  const [known, label, module] = VIEWS.find(([each]) => each === name) ?? VIEWS[0];
  leave?.();
  leave = null;
  for (const link of links) {
    if (link.dataset.view === known) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = known === "chat" ? "llamahome" : `${label} – llamahome`;
  view.className = known;
  const left = await module.show(view, part);
  if (mine === turn) leave = left;
  else left?.();
}

function askKey() {
  const input = h("input", { type: "password", value: apiKey(), name: "key", autocomplete: "off", spellcheck: "false" });
  const box = dialog("API key", h("form", {
    class: "stack", onsubmit: (event) => {
      event.preventDefault();
      setKey(input.value.trim());
      label();
      box.close();
      route();
    },
  }, field("Key", input, "Kept in this tab only, until it closes. Servers without keys need none."),
  h("div", { class: "row end" }, h("button", { type: "submit", class: "primary" }, "Use it"))));
  input.focus();
}

const keyButton = h("button", { type: "button", class: "quiet", id: "key", onclick: askKey });

function label() {
  keyButton.textContent = apiKey() ? "Key ✓" : "Key";
}

document.addEventListener("keydown", (event) => {
  if (event.altKey && !event.ctrlKey && !event.metaKey && /^Digit[1-5]$/.test(event.code)) {
    location.hash = VIEWS[Number(event.code.slice(5)) - 1][0];
    event.preventDefault();
  } else if (chat.key(event)) {
    event.preventDefault();
  }
});

applyTheme();
label();
document.getElementById("nav").append(...links);
document.getElementById("tools").append(models.selector(), keyButton);
models.watch();
addEventListener("hashchange", route);
route();
