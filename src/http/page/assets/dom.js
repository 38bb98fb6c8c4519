// Elements are made by calls and never from text, so that nothing an answer says becomes markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "value") element.value = value;
    else if (name === "checked") element.checked = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** An HTML element: attributes, `on…` listeners, children. */
export function h(tag, props, ...children) {
  const late = props?.value;
  const element = fill(document.createElement(tag), props, children);
  // A select has its options only now.
  if (tag === "select" && late !== undefined) element.value = late;
  return element;
}

/** An SVG element. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Replaces what is in an element; absent children are left out, as in `h`. */
export function put(element, ...children) {
  element.replaceChildren();
  fill(element, null, children);
}

/** The head of a table: names of columns, those of numbers at the right. */
export function columns(texts, numbers) {
  return h("thead", {}, h("tr", {}, texts.map((text) => h("th", { scope: "col", class: numbers.includes(text) ? "to-right" : undefined }, text))));
}

/** Tells those who cannot see the page. */
export function say(text) {
  const status = document.getElementById("status");
  if (status && status.textContent !== text) status.textContent = text;
}

/** A dialog that is closed by its button, by Escape or by `close()`. */
export function dialog(title, ...body) {
  const heading = h("h2", { id: "dialog-title" }, title);
  const box = h("dialog", { "aria-labelledby": "dialog-title", onclose: () => box.remove() },
    h("div", { class: "row spread" }, heading,
      h("button", { class: "quiet", type: "button", "aria-label": "Close", onclick: () => box.close() }, "✕")),
    ...body);
  document.body.append(box);
  box.showModal();
  return box;
}

/** Asks before something is lost. */
export function confirmed(question, action) {
  return new Promise((resolve) => {
    const box = dialog(question, h("div", { class: "row end" },
      h("button", { type: "button", onclick: () => box.close() }, "Cancel"),
      h("button", { type: "button", class: "danger", autofocus: true, onclick: () => { resolve(true); box.close(); } }, action)));
    box.addEventListener("close", () => resolve(false));
  });
}

/** A button that copies `text`, and says for a moment whether it could. */
export function copyButton(text) {
  const button = h("button", {
    type: "button", class: "quiet small",
    onclick: async () => {
      try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { button.textContent = "Not allowed"; }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    },
  }, "Copy");
  return button;
}

/** A labelled field. */
export function field(label, control, hint) {
  return h("label", { class: "field" }, h("span", {}, label), control, hint && h("small", {}, hint));
}

/** Offers text as a file. */
export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
