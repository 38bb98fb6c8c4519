// The chat: conversations at the left, the chosen branch of one in the middle, settings or the cache at the right.

import { h, say, dialog, confirmed, copyButton, download } from "./dom.js";
import { advice } from "./api.js";
import { answer, figures, forget } from "./answer.js";
import { cachePanel } from "./cache.js";
import { markdown } from "./markdown.js";
import { chosenModel } from "./models.js";
import { alarm } from "./notice.js";
import { change, panel as settingsPanel, settings } from "./settings.js";
import * as store from "./store.js";
import * as tree from "./tree.js";

/** How often a growing answer is drawn anew: milliseconds. */
const REDRAW = 60;

const state = { talks: [], talk: null, jobs: new Map(), editing: null, warning: null, ready: null };
let parts = null;
let cache = null;

function now() {
  return Date.now() / 1000;
}

function fresh() {
  return tree.conversation(crypto.getRandomValues(new Uint32Array(3)).join("-"), now());
}

function job() {
  return state.jobs.get(state.talk.id);
}

async function keep(talk) {
  talk.updated = now();
  if (!state.talks.includes(talk)) state.talks.unshift(talk);
  try { await store.put(talk); } catch (error) { warn(`This chat cannot be stored: ${error.message}`); }
}

function warn(text) {
  state.warning = text;
  if (parts) parts.warning.replaceChildren(text ? h("p", { class: "notice bad" }, text) : "");
}

/** Opens the conversations that the browser keeps. */
function ready() {
  state.ready ??= (async () => {
    const warning = await store.open();
    state.talks = await store.all();
    state.talk = state.talks[0] ?? fresh();
    warn(warning);
  })();
  return state.ready;
}

/** Draws the view into `view`. Returns what ends it. */
export async function show(view) {
  await ready();
  parts = {
    list: h("ul", { class: "talks" }),
    log: h("ol", { class: "log", "aria-label": "Messages" }),
    warning: h("div"),
    side: h("aside", { class: "panel", id: "panel", hidden: true }),
    input: h("textarea", {
      id: "input", rows: 1, placeholder: "Ask something", "aria-label": "Message", autocomplete: "off",
      oninput: grow, onkeydown: typed,
    }),
    send: h("button", { type: "submit", class: "primary", id: "send" }, "Send"),
    drawer: h("aside", { class: "drawer", id: "drawer", "aria-label": "Conversations" }),
  };
  parts.drawer.append(
    h("div", { class: "row" },
      h("button", { type: "button", class: "wide", id: "new", onclick: begin, title: "Alt+N" }, "New chat"),
      h("button", { type: "button", class: "quiet", onclick: importFile, title: "Open a chat that was exported here" }, "Open…")),
    parts.list);
  const form = h("form", { class: "composer", onsubmit: (event) => { event.preventDefault(); submit(); } },
    parts.input, parts.send);
  const tool = (name, label) => h("button", {
    type: "button", class: "quiet", id: `toggle-${name}`, "aria-controls": "panel", "aria-expanded": "false",
    onclick: () => openPanel(settings.panel === name ? "" : name),
  }, label);
  view.replaceChildren(h("div", { class: "chat" },
    parts.drawer,
    h("section", { class: "middle", "aria-label": "Chat" },
      h("div", { class: "row bar" },
        h("button", {
          type: "button", class: "quiet only-narrow", "aria-controls": "drawer",
          onclick: () => parts.drawer.classList.toggle("open"),
        }, "Chats"),
        h("span", { class: "grow" }), tool("settings", "Settings"), tool("cache", "KV cache")),
      parts.warning, h("div", { class: "scroller", id: "scroller", tabindex: 0, role: "region", "aria-label": "Conversation" }, parts.log), form),
    parts.side));
  warn(state.warning);
  // On a narrow window the panel covers the chat: it is opened by hand.
  openPanel(window.innerWidth > 900 ? settings.panel : "");
  drawList();
  drawLog();
  parts.input.focus({ preventScroll: true });
  return () => {
    cache?.stop();
    cache = null;
    parts = null;
  };
}

/** Keys that work in the whole view. Returns whether `event` was one. */
export function key(event) {
  if (!parts) return false;
  if (event.altKey && !event.ctrlKey && event.code === "KeyN") { begin(); return true; }
  if (event.key === "Escape" && job() && !document.querySelector("dialog")) { job().abort(); return true; }
  if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "")) {
    parts.input.focus();
    return true;
  }
  return false;
}

function openPanel(name) {
  change("panel", name);
  cache?.stop();
  cache = null;
  for (const each of ["settings", "cache"]) {
    document.getElementById(`toggle-${each}`)?.setAttribute("aria-expanded", String(each === name));
  }
  parts.side.hidden = !name;
  if (!name) { parts.side.replaceChildren(); return; }
  const body = h("div", { class: "panel-body", tabindex: 0 });
  parts.side.setAttribute("aria-label", name === "cache" ? "KV cache" : "Settings");
  parts.side.replaceChildren(
    h("div", { class: "row spread" }, h("h2", {}, name === "cache" ? "KV cache" : "Settings"),
      h("button", {
        type: "button", class: "quiet", "aria-label": "Close the panel",
        onclick: () => { openPanel(""); document.getElementById(`toggle-${name}`)?.focus(); },
      }, "✕")),
    body);
  if (name === "settings") body.append(settingsPanel());
  else cache = cachePanel(body, () => ({ session: state.talk.session, busy: Boolean(job()) }));
}

function begin() {
  if (tree.path(state.talk).length > 0) {
    state.talk = fresh();
    state.editing = null;
    drawList();
    drawLog();
    cache?.look();
  }
  parts.drawer.classList.remove("open");
  parts.input.focus();
}

function choose(talk) {
  state.talk = talk;
  state.editing = null;
  parts.drawer.classList.remove("open");
  drawList();
  drawLog();
  cache?.look();
}

function drawList() {
  if (!parts) return;
  parts.list.replaceChildren(...state.talks.map((talk) => {
    const here = talk === state.talk;
    return h("li", { class: here ? "here" : "" },
      h("button", { type: "button", class: "quiet title", "aria-current": here ? "true" : undefined, onclick: () => choose(talk) },
        talk.title || "New chat", state.jobs.has(talk.id) && h("span", { class: "dim" }, " …")),
      h("button", {
        type: "button", class: "quiet more", "aria-label": `What to do with ${talk.title || "this chat"}`,
        onclick: () => menu(talk),
      }, "⋯"));
  }));
}

function menu(talk) {
  const name = h("input", { value: talk.title, "aria-label": "Name", maxlength: 200 });
  const stem = (talk.title || "chat").replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40) || "chat";
  const box = dialog("Conversation",
    h("form", {
      class: "row", onsubmit: async (event) => {
        event.preventDefault();
        talk.title = name.value.trim() || talk.title;
        box.close();
        await keep(talk);
        drawList();
      },
    }, h("span", { class: "grow field" }, name), h("button", { type: "submit" }, "Rename")),
    h("div", { class: "row wrap" },
      h("button", { type: "button", onclick: () => { download(`${stem}.md`, "text/markdown", tree.asMarkdown(talk)); box.close(); } }, "Export Markdown"),
      h("button", {
        type: "button",
        onclick: () => { download(`${stem}.json`, "application/json", JSON.stringify(talk, null, 2)); box.close(); },
      }, "Export JSON"),
      h("button", {
        type: "button", class: "danger",
        onclick: async () => {
          box.close();
          if (await confirmed(`Delete “${talk.title || "New chat"}”?`, "Delete")) await drop(talk);
        },
      }, "Delete")));
}

async function drop(talk) {
  state.jobs.get(talk.id)?.abort();
  forget(talk.session);
  state.talks = state.talks.filter((each) => each !== talk);
  await store.remove(talk.id);
  if (state.talk === talk) choose(state.talks[0] ?? fresh());
  else drawList();
}

function importFile() {
  const input = h("input", {
    type: "file", accept: "application/json,.json",
    onchange: async () => {
      try {
        const talk = Object.assign(tree.imported(JSON.parse(await input.files[0].text())), { id: fresh().id });
        await keep(talk);
        choose(talk);
      } catch (error) {
        warn(error.message);
      }
    },
  });
  input.click();
}

function grow() {
  parts.input.style.height = "auto";
  parts.input.style.height = `${Math.min(parts.input.scrollHeight + 2, 240)}px`;
}

function typed(event) {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    submit();
  } else if (event.key === "ArrowUp" && parts.input.value === "" && !job()) {
    const mine = tree.path(state.talk).filter((node) => node.role === "user");
    if (mine.length > 0) { event.preventDefault(); edit(mine[mine.length - 1].id); }
  }
}

function submit() {
  if (job()) { job().abort(); return; }
  const text = parts.input.value.trim();
  if (!text) return;
  parts.input.value = "";
  grow();
  const last = tree.path(state.talk).at(-1);
  ask(last ? last.id : tree.ROOT, text);
}

function ask(parent, text) {
  const talk = state.talk;
  const node = tree.add(talk, parent, { role: "user", content: text, time: now() });
  talk.title ||= tree.title(text);
  reply(talk, node.id);
}

/** Has the message `parent` answered, in a new branch if it was before. */
async function reply(talk, parent) {
  const model = chosenModel();
  const said = tree.messages(settings.system, tree.upTo(talk, parent));
  const node = tree.add(talk, parent, { role: "assistant", content: "", time: now(), model });
  const abort = new AbortController();
  state.jobs.set(talk.id, abort);
  await keep(talk);
  drawList();
  drawLog(true);
  say("Answering");
  cache?.look();
  let due = null;
  const told = () => {
    due ??= setTimeout(() => { due = null; redraw(talk, node); }, REDRAW);
  };
  try {
    await answer(talk, node, said, model, abort.signal, told);
    say("The answer is complete");
  } catch (error) {
    if (abort.signal.aborted) {
      node.stopped = true;
      say("Stopped");
    } else {
      node.error = { message: error.message, code: error.code ?? null, advice: advice(error) };
      say(`The request failed: ${error.message}`);
    }
  }
  clearTimeout(due);
  state.jobs.delete(talk.id);
  await keep(talk);
  if (state.talk === talk) { drawList(); drawLog(); cache?.look(); }
}

function edit(id) {
  state.editing = id;
  drawLog();
}

function follows() {
  const box = document.getElementById("scroller");
  return box && box.scrollHeight - box.scrollTop - box.clientHeight < 80;
}

function toEnd() {
  const box = document.getElementById("scroller");
  if (box) box.scrollTop = box.scrollHeight;
}

function redraw(talk, node) {
  if (!parts || state.talk !== talk) return;
  const follow = follows();
  const body = document.getElementById(`body-${node.id}`);
  if (body) body.replaceChildren(...content(node));
  if (follow) toEnd();
}

function content(node) {
  const running = job() && tree.path(state.talk).at(-1) === node;
  return [
    node.reasoning && h("details", {}, h("summary", {}, "Reasoning"), h("div", { class: "dim plain" }, node.reasoning)),
    ...(node.role === "user" ? [h("div", { class: "plain" }, node.content)] : markdown(node.content)),
    running && node.content === "" && h("p", { class: "dim" }, "…"),
  ].filter(Boolean);
}

function drawLog(end) {
  if (!parts) return;
  const follow = end || follows();
  const nodes = tree.path(state.talk);
  parts.log.replaceChildren(...nodes.map((node) => message(node)));
  if (nodes.length === 0) {
    parts.log.append(h("li", { class: "empty" },
      h("p", {}, "Nothing was said yet. Chats stay in this browser; answers come from this server."),
      h("p", { class: "dim" }, "Enter sends, Shift+Enter begins a line, Escape stops, ↑ edits the last message, Alt+N begins a chat.")));
  }
  parts.send.textContent = job() ? "Stop" : "Send";
  parts.send.classList.toggle("primary", !job());
  if (follow) toEnd();
}

function message(node) {
  const mine = node.role === "user";
  const { index, count } = tree.place(state.talk, node.id);
  const idle = !job();
  const last = tree.path(state.talk).at(-1) === node;
  const by = (step) => () => {
    tree.turn(state.talk, node.id, step);
    keep(state.talk);
    drawLog();
    document.getElementById(`turn-${tree.path(state.talk)[tree.upTo(state.talk, node.id).length - 1].id}-${step}`)?.focus();
  };
  const branches = count > 1 && h("span", { class: "branches", role: "group", "aria-label": "Branches" },
    h("button", { type: "button", class: "quiet small", id: `turn-${node.id}--1`, "aria-label": "Previous branch", disabled: index === 1 || !idle, onclick: by(-1) }, "‹"),
    h("span", { class: "dim" }, `${index} / ${count}`),
    h("button", { type: "button", class: "quiet small", id: `turn-${node.id}-1`, "aria-label": "Next branch", disabled: index === count || !idle, onclick: by(1) }, "›"));
  if (state.editing === node.id) return editor(node);
  return h("li", { class: mine ? "message mine" : "message", data: { id: node.id } },
    h("h3", { class: "who" }, mine ? "You" : node.model || "Assistant"),
    h("div", { class: "body", id: `body-${node.id}` }, content(node)),
    node.stopped && h("p", { class: "notice" }, "Stopped."),
    (node.notices ?? []).map((text) => h("p", { class: "notice" }, text)),
    node.error && alarm(node.error.message,
      node.error.code && h("code", {}, ` ${node.error.code}`), node.error.advice && h("span", {}, ` ${node.error.advice}`)),
    h("div", { class: "row wrap under" },
      branches,
      idle && mine && h("button", { type: "button", class: "quiet small", onclick: () => edit(node.id) }, "Edit"),
      idle && !mine && h("button", { type: "button", class: "quiet small", onclick: () => reply(state.talk, node.parent) }, "Regenerate"),
      idle && mine && last && h("button", { type: "button", class: "quiet small", onclick: () => reply(state.talk, node.id) }, "Answer"),
      node.content && (idle || !last) && copyButton(node.content),
      !mine && h("span", { class: "dim figures" }, figures(node))));
}

function editor(node) {
  const text = h("textarea", { rows: Math.min(12, node.content.split("\n").length + 1), value: node.content, "aria-label": "Edited message" });
  const cancel = () => { state.editing = null; drawLog(); parts.input.focus(); };
  const send = () => {
    const edited = text.value.trim();
    state.editing = null;
    if (edited) ask(node.parent, edited);
    else drawLog();
  };
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
    if (event.key === "Escape") { event.preventDefault(); event.stopPropagation(); cancel(); }
  });
  setTimeout(() => { text.focus(); text.setSelectionRange(text.value.length, text.value.length); });
  return h("li", { class: "message mine" },
    h("h3", { class: "who" }, "You"), text,
    h("div", { class: "row under" },
      h("button", { type: "button", class: "primary", onclick: send }, "Send as a new branch"),
      h("button", { type: "button", onclick: cancel }, "Cancel")));
}
