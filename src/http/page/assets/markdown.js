// Markdown to elements: the part of CommonMark that models write. Anything else, HTML too, stays text.

import { copyButton, h } from "./dom.js";

const SAFE = ["http:", "https:", "mailto:"];

/** The elements of a text, which may be unfinished. */
export function markdown(text) {
  return blocks(text.replace(/\r\n?/g, "\n").split("\n"));
}

const FENCE = /^( {0,3})(`{3,}|~{3,})\s*([^`\s]*)[^`]*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+|$)(.*)$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

function blocks(lines) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    if (line.trim() === "") { at += 1; continue; }
    const fence = line.match(FENCE);
    if (fence) {
      const [, indent, mark, language] = fence;
      const closes = new RegExp(`^ {0,3}${mark[0] === "`" ? "`" : "~"}{${mark.length},}\\s*$`);
      const code = [];
      at += 1;
      while (at < lines.length && !closes.test(lines[at])) {
        code.push(lines[at].startsWith(indent) ? lines[at].slice(indent.length) : lines[at]);
        at += 1;
      }
      at += 1;
      found.push(codeBlock(code.join("\n"), language));
      continue;
    }
    const heading = line.match(HEADING);
    if (heading) {
      // The page has its own first and second level.
      found.push(h(`h${Math.min(6, heading[1].length + 2)}`, {}, inline(heading[2])));
      at += 1;
      continue;
    }
    if (RULE.test(line)) { found.push(h("hr")); at += 1; continue; }
    if (/^ {0,3}>/.test(line)) {
      const quoted = [];
      while (at < lines.length && lines[at].trim() !== "" && (/^ {0,3}>/.test(lines[at]) || quoted.length > 0)) {
        quoted.push(lines[at].replace(/^ {0,3}> ?/, ""));
        at += 1;
      }
      found.push(h("blockquote", {}, blocks(quoted)));
      continue;
    }
    if (ITEM.test(line)) {
      const [element, next] = list(lines, at);
      found.push(element);
      at = next;
      continue;
    }
    if (line.includes("|") && at + 1 < lines.length && lines[at + 1].includes("-") && DIVIDER.test(lines[at + 1])) {
      const [element, next] = table(lines, at);
      found.push(element);
      at = next;
      continue;
    }
    const paragraph = [line];
    at += 1;
    while (at < lines.length && lines[at].trim() !== "" && !starts(lines[at])) {
      paragraph.push(lines[at]);
      at += 1;
    }
    found.push(h("p", {}, inline(paragraph.join("\n"))));
  }
  return found;
}

function starts(line) {
  const item = line.match(ITEM);
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || /^ {0,3}>/.test(line)
    || (item && item[4] !== "" && !/^(?!1[.)])\d/.test(item[2]));
}

function list(lines, from) {
  const [, indent, mark] = lines[from].match(ITEM);
  const ordered = /\d/.test(mark);
  const items = [];
  let at = from;
  while (at < lines.length) {
    const item = lines[at].match(ITEM);
    if (!item || item[1].length > indent.length + 1 || item[1].length < indent.length || /\d/.test(item[2]) !== ordered
      || RULE.test(lines[at])) break;
    const width = item[1].length + item[2].length + Math.max(1, Math.min(item[3].length, 4));
    const body = [item[4]];
    at += 1;
    while (at < lines.length) {
      const line = lines[at];
      const depth = line.length - line.trimStart().length;
      if (line.trim() === "") {
        const next = lines[at + 1];
        if (next === undefined || next.trim() === "" || next.length - next.trimStart().length <= indent.length) break;
        body.push("");
      } else if (depth > indent.length) {
        body.push(line.slice(Math.min(depth, width)));
      } else if (ITEM.test(line) || starts(line)) {
        break;
      } else {
        body.push(line);
      }
      at += 1;
    }
    items.push(listItem(body));
    while (at + 1 < lines.length && lines[at].trim() === "" && ITEM.test(lines[at + 1])) at += 1;
  }
  const start = ordered ? Number.parseInt(mark, 10) : 1;
  return [h(ordered ? "ol" : "ul", { start: start === 1 ? undefined : start }, items), at];
}

function listItem(body) {
  const task = body[0].match(/^\[([ xX])\]\s+(.*)$/);
  if (task) body[0] = task[2];
  const parts = blocks(body);
  // An item of one paragraph is written without its margins.
  const inner = parts.flatMap((part, index) => (part.tagName === "P" && index === 0 ? [...part.childNodes] : [part]));
  return h("li", {}, task && (task[1] === " " ? "☐ " : "☑ "), inner);
}

function cells(line) {
  const row = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return row.split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/\\\|/g, "|"));
}

function table(lines, from) {
  const head = cells(lines[from]);
  const align = cells(lines[from + 1]).map((cell) => (/:$/.test(cell) ? (/^:/.test(cell) ? "center" : "right") : "left"));
  const rows = [];
  let at = from + 2;
  while (at < lines.length && lines[at].includes("|")) {
    rows.push(cells(lines[at]));
    at += 1;
  }
  const cell = (tag) => (text, index) => h(tag, { class: `to-${align[index] ?? "left"}` }, inline(text));
  const element = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table" },
    h("table", {},
      h("thead", {}, h("tr", {}, head.map(cell("th")))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell("td")))))));
  return [element, at];
}

function codeBlock(text, language) {
  return h("div", { class: "code" },
    h("div", { class: "row spread" }, h("span", { class: "dim" }, language || "text"), copyButton(text)),
    h("pre", { tabindex: 0 }, h("code", {}, text)));
}

const MARKS = [
  [/^(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)/, (match) => h("code", {}, match[2].replace(/\n/g, " "))],
  [/^\\([!-/:-@[-`{-~])/, (match) => match[1]],
  [/^(?: {2,}|\\)\n/, () => h("br")],
  [/^!?\[((?:[^[\]\\]|\\.|\[[^\]]*\])*)\]\(\s*<?([^\s()<>]*(?:\([^\s()]*\)[^\s()<>]*)*)>?(?:\s+["'][^)]*["'])?\s*\)/,
    (match) => link(match[2], inline(match[1]), match[0])],
  [/^<((?:https?:|mailto:)[^\s>]+)>/, (match) => link(match[1], match[1], match[0])],
  [/^https?:\/\/[^\s<>]*[^\s<>.,;:!?)\]}'"*_]/, (match) => link(match[0], match[0], match[0])],
  [/^(\*\*|__)(?=\S)([\s\S]*?\S)\1(?!\*)/, (match) => h("strong", {}, inline(match[2]))],
  [/^~~(?=\S)([\s\S]*?\S)~~/, (match) => h("del", {}, inline(match[1]))],
  [/^\*(?=[^\s*])([\s\S]*?[^\s*])\*(?!\*)/, (match) => h("em", {}, inline(match[1]))],
];
const UNDERLINED = /^_(?=[^\s_])([\s\S]*?[^\s_])_(?![\w_])/;

function inline(text) {
  const found = [];
  let plain = "";
  let rest = text;
  const flush = () => { if (plain) { found.push(plain); plain = ""; } };
  scan: while (rest) {
    for (const [mark, make] of MARKS) {
      const match = rest.match(mark);
      if (match) {
        flush();
        found.push(make(match));
        rest = rest.slice(match[0].length);
        continue scan;
      }
    }
    const emphasis = /\w$/.test(plain) ? null : rest.match(UNDERLINED);
    if (emphasis) {
      flush();
      found.push(h("em", {}, inline(emphasis[1])));
      rest = rest.slice(emphasis[0].length);
      continue;
    }
    // To the next character that may mean something.
    const step = Math.max(1, rest.slice(1).search(/[`\\![<h*_~]| {2,}\n/) + 1 || rest.length);
    plain += rest.slice(0, step);
    rest = rest.slice(step);
  }
  flush();
  return found;
}

function link(address, text, source) {
  let url;
  try { url = new URL(address); } catch { return source; }
  if (!SAFE.includes(url.protocol)) return source;
  return h("a", { href: url.href, target: "_blank", rel: "noopener noreferrer" }, text);
}
