// The web page in a real browser. Arguments: the daemon's address, the browser's program, the file of axe-core, the address of a
// daemon whose key is "right", and words of the cases to run, all if left out.
// The daemon serves the model that counts letters (see tests/support/fake.rs) with runs that can be trained.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

import { Browser } from "./browser.mjs";

const [address, program, axeFile, locked, only] = process.argv.slice(2);
const axe = await readFile(axeFile, "utf8");
const browser = await Browser.start(program);
const cases = [];
const opened = [];
const test = (name, run) => cases.push([name, run]);

/** The messages that are shown: who, text. */
const shown = (page) => page.run(() => [...document.querySelectorAll(".message")].map((each) => each.querySelector(".body")?.innerText.trim()));

/** Waits until nothing is being answered. */
const idle = (page) => page.until(() => document.getElementById("send")?.textContent === "Send", "the end of the answer");

async function say(page, text) {
  await page.click("#input");
  await page.type(text);
  await page.press("Enter");
}

async function ask(page, text) {
  await say(page, text);
  await page.until((text) => [...document.querySelectorAll(".message .body")].some((each) => each.innerText.trim() === text), "the question", text);
  await idle(page);
}

async function set(page, values) {
  const open = await page.run(() => document.getElementById("toggle-settings").getAttribute("aria-expanded") === "true");
  if (!open) await page.click("#toggle-settings");
  await page.run((values) => {
    for (const [name, value] of Object.entries(values)) {
      const field = document.querySelector(`.panel [name="${name}"]`);
      field.value = value;
      field.dispatchEvent(new Event(field.tagName === "SELECT" ? "change" : "input", { bubbles: true }));
    }
  }, values);
}

/** Faults that axe-core calls serious or worse. */
async function faults(page) {
  await page.run(`() => { ${axe}\n; return true; }`);
  const found = await page.run(async () => {
    const result = await window.axe.run(document, { resultTypes: ["violations"] });
    return result.violations.filter((each) => ["serious", "critical"].includes(each.impact))
      .map((each) => `${each.id}: ${each.nodes.map((node) => `${node.html.slice(0, 160)} ${node.failureSummary}`).join("; ")}`);
  });
  assert.deepEqual(found, []);
}

/** A fresh page that has nothing stored. */
async function fresh(options, where = address) {
  const page = await browser.open(null, options);
  opened.push(page);
  await page.send("Storage.clearDataForOrigin", { origin: where, storageTypes: "all" });
  await page.go(`${where}/`);
  await page.until((key) => document.getElementById("input") && (key || document.getElementById("model").value), "the chat", where === locked);
  return page;
}

async function clean(page) {
  assert.deepEqual(page.errors, [], "nothing is wrong in the console");
}

test("a chat is streamed, told in figures, and is still there after a reload", async () => {
  const page = await fresh();
  await set(page, { max_tokens: "12" });
  await say(page, "a");
  await idle(page);
  await page.until(() => document.querySelector(".figures")?.textContent, "figures");
  assert.deepEqual(await shown(page), ["a", "bcdefghijklm"]);
  const text = await page.run(() => document.querySelector(".log").innerText);
  assert.match(text, /1 \+ 12 tokens/);
  assert.match(text, /tokens\/s/);
  assert.match(text, /first token/);
  assert.match(text, /cut at its longest length/);
  await page.go(`${address}/?again`);
  await page.until(() => document.querySelectorAll(".message").length === 2, "the stored chat");
  assert.deepEqual(await shown(page), ["a", "bcdefghijklm"]);
  await faults(page);
  await clean(page);
});

test("stop ends an answer and keeps what came", async () => {
  const page = await fresh();
  await set(page, { max_tokens: "200" });
  await say(page, "a");
  await page.until(() => document.querySelectorAll(".message .body")[1]?.innerText.length > 5, "the first tokens");
  await page.press("Escape");
  await idle(page);
  const [, text] = await shown(page);
  assert.match(text, /^bcd/);
  assert.ok(text.length < 400, text);
  await page.until(() => document.querySelector(".log").innerText.includes("Stopped."), "the notice");
  // The engine has let go of it.
  await page.until(async () => {
    const { models } = await (await fetch("/v1/monitor")).json();
    return models.every((model) => model.running === 0);
  }, "an idle engine");
  await clean(page);
});

test("an edited message and a second answer are branches", async () => {
  const page = await fresh();
  await set(page, { max_tokens: "3" });
  await ask(page, "a");
  await ask(page, "m");
  assert.deepEqual(await shown(page), ["a", "bcd", "m", "nop"]);
  await page.run(() => document.querySelectorAll(".message")[2].querySelector("button").focus());
  await page.click('.message[data-id="3"] button', "Edit");
  await page.until(() => document.activeElement?.getAttribute("aria-label") === "Edited message", "the editor");
  await page.run(() => document.activeElement.select());
  await page.type("t");
  await page.press("Enter");
  await page.until(() => document.querySelectorAll(".message .body")[3]?.innerText.trim() === "uvw", "the new branch");
  await idle(page);
  assert.deepEqual(await shown(page), ["a", "bcd", "t", "uvw"]);
  assert.equal(await page.run(() => document.querySelector(".branches").innerText.replace(/\s+/g, " ")), "‹ 2 / 2 ›");
  await page.click('.branches button[aria-label="Previous branch"]');
  await page.until(() => document.querySelectorAll(".message .body")[3]?.innerText.trim() === "nop", "the old branch");
  assert.deepEqual(await shown(page), ["a", "bcd", "m", "nop"]);
  // Regenerate: the counting model says the same again, beside the first.
  await page.click('.message[data-id="4"] button', "Regenerate");
  await page.until(() => document.querySelectorAll(".branches").length === 2, "branches of the answer");
  await idle(page);
  assert.deepEqual(await shown(page), ["a", "bcd", "m", "nop"]);
  assert.deepEqual(await page.run(() => [...document.querySelectorAll(".branches")].map((each) => each.innerText.replace(/\s+/g, " "))), ["‹ 1 / 2 ›", "‹ 2 / 2 ›"]);
  await clean(page);
});

test("a session goes on: a second turn reads only what is new", async () => {
  const page = await fresh();
  await set(page, { max_tokens: "3" });
  await ask(page, "a");
  await ask(page, "m");
  const figures = await page.run(() => [...document.querySelectorAll(".figures")].at(-1).textContent);
  assert.match(figures, /5 \+ 3 tokens \(3 cached\)/);
  await clean(page);
});

test("the picture of the cache changes as tokens are evicted", async () => {
  const page = await fresh();
  await set(page, { max_tokens: "120", policy: "h2o", budget: "16" });
  await page.click("#toggle-cache");
  await say(page, "abcdefgh");
  const seen = await page.until(() => {
    const tokens = document.querySelectorAll("#tokens .token").length;
    return tokens > 8 && document.getElementById("send").textContent === "Stop" ? tokens : 0;
  }, "a picture while tokens come");
  await page.until((before) => document.querySelectorAll("#tokens .token").length > before, "a longer picture", seen);
  const gone = await page.until(() => document.querySelectorAll("#tokens .k0").length, "evicted tokens");
  await page.until((before) => document.querySelectorAll("#tokens .k0").length > before, "more of them", gone);
  await idle(page);
  await page.until(() => /127 tokens seen, 16 kept/.test(document.getElementById("cache-summary").textContent), "the last state");
  const counts = await page.run(() => ({
    all: document.querySelectorAll("#tokens .token").length,
    gone: document.querySelectorAll("#tokens .k0").length,
    text: document.getElementById("tokens").textContent,
  }));
  assert.equal(counts.all, 127);
  assert.equal(counts.gone, 111);
  assert.ok(counts.text.startsWith("abcdefghijkl"), counts.text);
  assert.match(await page.run(() => document.querySelector(".log").innerText), /111 of 127 tokens were evicted/);
  // One head of one layer, and a token's figures.
  await page.run(() => {
    const select = document.querySelector(".panel select");
    select.value = "0";
    select.dispatchEvent(new Event("change", { bubbles: true }));
  });
  await page.until(() => document.querySelectorAll("#tokens .k3").length === 16, "one layer");
  await page.click("#tokens .k0");
  await page.until(() => /evicted by every head/.test(document.querySelector(".about").textContent), "figures of a token");
  await faults(page);
  await clean(page);
});

test("what the server refuses is said, with what to do", async () => {
  const page = await fresh();
  await set(page, { max_tokens: "200" });
  await ask(page, "a".repeat(300));
  const text = await page.run(() => document.querySelector(".notice.bad").innerText);
  assert.match(text, /context_length_exceeded/);
  assert.match(text, /new chat/);
  assert.deepEqual(page.failed.filter((each) => !each.startsWith("400")), []);
});

test("text of a model never becomes markup", async () => {
  const page = await fresh();
  const found = await page.run(async () => {
    const { markdown } = await import("/page/markdown.js");
    const box = document.createElement("div");
    box.append(...markdown([
      "# Title <b>x</b>", "", "A **bold** and *slanted* word, `code <i>`, [a link](https://example.org/a_(b)) and",
      "[a trap](javascript:alert(1)), https://example.org/x. <img src=x onerror=alert(1)>", "", "- one", "  - two", "- [x] done", "",
      "1. first", "2. second", "", "> quoted", "> more", "", "| a | b |", "|---|--:|", "| 1 | 2 |", "", "```js", "let x = '<script>';", "```", "",
      "snake_case_name and 2 * 3 * 4", "", "~~~", "unfinished",
    ].join("\n")));
    return {
      tags: [...new Set([...box.querySelectorAll("*")].map((each) => each.tagName.toLowerCase()))].sort(),
      links: [...box.querySelectorAll("a")].map((each) => each.href), text: box.textContent,
      code: [...box.querySelectorAll("pre")].map((each) => each.textContent),
      nested: box.querySelector("ul ul li")?.textContent, cell: box.querySelector("td.to-right")?.textContent,
    };
  });
  assert.ok(!found.tags.includes("img") && !found.tags.includes("b") && !found.tags.includes("script"), found.tags.join());
  for (const tag of ["h3", "strong", "em", "code", "ul", "ol", "blockquote", "table", "pre"]) assert.ok(found.tags.includes(tag), tag);
  assert.deepEqual(found.links, ["https://example.org/a_(b)", "https://example.org/x"]);
  assert.deepEqual(found.code, ["let x = '<script>';", "unfinished"]);
  assert.match(found.text, /snake_case_name and 2 \* 3 \* 4/);
  assert.match(found.text, /\[a trap\]\(javascript:alert\(1\)\)/);
  assert.deepEqual([found.nested, found.cell], ["two", "2"]);
  await clean(page);
});

test("conversations are renamed, exported, opened and deleted", async () => {
  const page = await fresh();
  await set(page, { max_tokens: "3" });
  await ask(page, "a");
  await page.click("#new");
  await ask(page, "m");
  await page.until(() => document.querySelectorAll(".talks li").length === 2, "two conversations");
  await page.click(".talks .here .more");
  await page.run(() => document.querySelector("dialog input").select());
  await page.type("Renamed");
  await page.press("Enter");
  await page.until(() => document.querySelector(".talks .here .title").textContent === "Renamed", "the new name");
  const round = await page.run(async () => {
    const { imported, asMarkdown } = await import("/page/tree.js");
    const request = indexedDB.open("llamahome", 1);
    await new Promise((resolve) => { request.onsuccess = resolve; });
    const all = request.result.transaction("conversations").objectStore("conversations").getAll();
    await new Promise((resolve) => { all.onsuccess = resolve; });
    const talk = all.result.find((each) => each.title === "Renamed");
    let refused = "";
    try { imported({ nodes: { 1: { role: "tool" } }, children: {}, chosen: {} }); } catch (error) { refused = error.message; }
    return { text: asMarkdown(imported(JSON.parse(JSON.stringify(talk)))), refused };
  });
  assert.match(round.text, /# Renamed[\s\S]*## You\n\nm[\s\S]*## fake\n\nnop/);
  assert.match(round.refused, /nodes\.1\.role/);
  await page.click(".talks .here .more");
  await page.click("dialog button", "Delete");
  await page.until(() => document.querySelector("dialog h2")?.textContent.startsWith("Delete"), "the question");
  await page.click("dialog button", "Delete");
  await page.until(() => document.querySelectorAll(".talks li").length === 1, "one conversation");
  assert.deepEqual(await shown(page), ["a", "bcd"]);
  await clean(page);
});

test("the monitor moves", async () => {
  const page = await fresh();
  await set(page, { max_tokens: "200" });
  await say(page, "a");
  await page.press("3", { alt: true, code: "Digit3" });
  await page.until(() => /Running1/.test(document.querySelector(".tiles")?.textContent ?? ""), "a running request");
  await page.until(() => Number.parseFloat([...document.querySelectorAll(".tile")][1]?.querySelector("b").textContent) > 0, "a rate");
  const points = await page.until(() => document.querySelector(".line")?.getAttribute("points"), "a curve");
  await page.until((before) => document.querySelector(".line")?.getAttribute("points") !== before, "a longer curve", points);
  await faults(page);
  await clean(page);
});

test("models are loaded and unloaded, and their states follow", async () => {
  const page = await fresh();
  await page.press("2", { alt: true, code: "Digit2" });
  await page.click('.card[aria-label="fake"] button', "Sleep");
  await page.until(() => document.querySelector('.card[aria-label="fake"] .state')?.textContent === "sleeping", "sleep");
  await page.click('.card[aria-label="fake"] button', "Wake");
  await page.until(() => document.querySelector('.card[aria-label="fake"] .state')?.textContent === "loaded", "loaded again");
  assert.match(await page.run(() => document.getElementById("model").selectedOptions[0].textContent), /fake \(loaded\)/);
  await faults(page);
  await clean(page);
});

test("a training run is started, drawn as it goes, paused and stopped", async () => {
  const page = await fresh();
  await page.go(`${address}/?runs#runs`);
  await page.click("button", "Start a run…");
  await page.run(() => { document.querySelector('[name="recipe"]').value = "tiny"; document.querySelector('[name="set"]').value = "logging.every = 1"; });
  await page.click("dialog button", "Start");
  const points = await page.until(() => {
    const line = document.querySelector(".detail .line");
    return line && line.getAttribute("points").split(" ").length > 3 ? line.getAttribute("points") : null;
  }, "a curve");
  await page.until((before) => document.querySelector(".detail .line").getAttribute("points") !== before, "a longer curve", points);
  await page.click(".detail button", "Pause");
  await page.until(() => document.querySelector(".detail .dim")?.textContent.startsWith("paused"), "the pause");
  await faults(page);
  await page.click(".detail button", "Resume");
  await page.until(() => document.querySelector(".detail .dim")?.textContent.startsWith("running"), "going on");
  await page.click(".detail button", "Stop");
  await page.click("dialog button", "Stop");
  await page.until(() => document.querySelector(".detail .dim")?.textContent.startsWith("stopped"), "the end");
  await clean(page);
});

test("a key is asked for, used, and gone with the tab", async () => {
  const page = await fresh({}, locked);
  await page.run(() => { location.hash = "models"; });
  await page.until(() => /Enter the key/.test(document.querySelector(".notice.bad")?.textContent ?? ""), "what to do");
  await page.click("#key");
  await page.type("right");
  await page.press("Enter");
  await page.until(() => document.querySelector('.card[aria-label="fake"]'), "the models");
  await page.run(() => { location.hash = "chat"; });
  await page.until(() => document.getElementById("input"), "the chat");
  await set(page, { max_tokens: "3" });
  await ask(page, "a");
  assert.deepEqual(await shown(page), ["a", "bcd"]);
  assert.deepEqual(page.failed.filter((each) => !each.startsWith("401")), []);
  const stored = await page.run(() => [sessionStorage.getItem("llamahome.key"), JSON.stringify({ ...localStorage })]);
  assert.equal(stored[0], "right");
  assert.ok(!stored[1].includes("right"));
});

test("the reference of the API is drawn from its description", async () => {
  const page = await fresh();
  // Not one of the views that `go` waits for.
  await page.send("Page.navigate", { url: `${address}/docs` });
  await page.until(() => document.querySelectorAll("details").length > 50, "the routes");
  const fields = await page.run(() => {
    const route = document.getElementById("post/v1/chat/completions");
    route.open = true;
    return route.innerText;
  });
  assert.match(fields, /messages/);
  assert.match(fields, /max_completion_tokens/);
  await faults(page);
  await clean(page);
});

test("evaluations are listed and drawn", async () => {
  const page = await fresh();
  await page.go(`${address}/?evaluations#evaluations`);
  await page.until(() => document.querySelectorAll(".detail .chart").length === 1, "a chart");
  const text = await page.run(() => document.querySelector(".detail").innerText);
  assert.match(text, /passkey: accuracy/);
  assert.match(text, /h2o/);
  await faults(page);
  await clean(page);
});

for (const dark of [false, true]) {
  test(`it fits 390 pixels and is legible, ${dark ? "dark" : "light"}`, async () => {
    const page = await fresh({ width: 390, height: 800, dark });
    await page.click("#toggle-settings");
    await set(page, { max_tokens: "40", policy: "h2o", budget: "16" });
    await faults(page);
    await page.click('.panel button[aria-label="Close the panel"]');
    await ask(page, "a");
    await page.click("#toggle-cache");
    await page.until(() => document.querySelectorAll("#tokens .k0").length > 0, "the picture");
    await faults(page);
    await page.click('.panel button[aria-label="Close the panel"]');
    await page.click("button", "Chats");
    await page.click(".talks .here .title");
    await faults(page);
    for (const name of ["chat", "models", "monitor", "runs", "evaluations"]) {
      await page.run((name) => { location.hash = name; }, name);
      await page.until((name) => document.querySelector(`nav a[data-view="${name}"][aria-current]`), name, name);
      await page.until(() => document.querySelector("main").innerText.length > 20, "its content");
      const wide = await page.run(() => [document.documentElement.scrollWidth, document.querySelector("main").scrollWidth]);
      assert.ok(wide.every((each) => each <= 390), `${name} is ${wide} wide`);
      await faults(page);
    }
    await clean(page);
  });
}

let failures = 0;
for (const [name, run] of cases) {
  if (only && !name.includes(only)) continue;
  const begun = Date.now();
  try {
    await run();
    console.log(`ok ${name} (${Date.now() - begun} ms)`);
  } catch (error) {
    failures += 1;
    console.log(`FAILED ${name}\n${error.stack}`);
  }
  while (opened.length > 0) await opened.pop().close();
}
await browser.stop();
process.exit(failures === 0 ? 0 : 1);
