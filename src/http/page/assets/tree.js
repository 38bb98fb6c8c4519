// A conversation as a tree: an edited message or a second answer is a branch beside the first, and nothing is lost.
// Pure: no clock, no storage, no document.

/** The parent of first messages. */
export const ROOT = "";

/** An empty conversation. */
export function conversation(id, now) {
  return { id, title: "", created: now, updated: now, nodes: {}, children: { [ROOT]: [] }, chosen: {}, session: null };
}

/** Adds a message below `parent` and chooses it. */
export function add(talk, parent, node) {
  const id = String(Object.keys(talk.nodes).length + 1);
  talk.nodes[id] = { ...node, id, parent };
  talk.children[id] = [];
  talk.children[parent].push(id);
  talk.chosen[parent] = id;
  return talk.nodes[id];
}

/** The messages of the chosen branch, first to last. */
export function path(talk) {
  const found = [];
  let at = ROOT;
  for (;;) {
    const children = talk.children[at] ?? [];
    if (children.length === 0) return found;
    const chosen = children.includes(talk.chosen[at]) ? talk.chosen[at] : children[children.length - 1];
    found.push(talk.nodes[chosen]);
    at = chosen;
  }
}

/** The messages from the first to `id`. */
export function upTo(talk, id) {
  const found = [];
  for (let at = id; at !== ROOT; at = talk.nodes[at].parent) found.unshift(talk.nodes[at]);
  return found;
}

/** Which of how many branches a message is, from 1. */
export function place(talk, id) {
  const siblings = talk.children[talk.nodes[id].parent];
  return { index: siblings.indexOf(id) + 1, count: siblings.length };
}

/** Chooses the branch `by` places on. Returns whether there is one. */
export function turn(talk, id, by) {
  const parent = talk.nodes[id].parent;
  const siblings = talk.children[parent];
  const next = siblings[siblings.indexOf(id) + by];
  if (next === undefined) return false;
  talk.chosen[parent] = next;
  return true;
}

/** What is sent of messages: roles and contents, the system's first. */
export function messages(system, nodes) {
  const said = nodes
    .filter((node) => node.role === "user" || node.content !== "")
    .map((node) => ({ role: node.role, content: node.content }));
  return system.trim() ? [{ role: "system", content: system }, ...said] : said;
}

/** The title that a first message gives. */
export function title(text) {
  const line = text.trim().split("\n")[0].replace(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 57).trimEnd()}…` : line;
}

/** The chosen branch as Markdown. */
export function asMarkdown(talk) {
  const parts = path(talk).map((node) => `## ${node.role === "user" ? "You" : node.model || "Assistant"}\n\n${node.content}\n`);
  return `# ${talk.title || "Conversation"}\n\n${parts.join("\n")}`;
}

/** A conversation out of a file that was exported here; an error says what is wrong with it. */
export function imported(value) {
  const wrong = (what) => new Error(`this is not a conversation of this page: ${what}`);
  if (typeof value !== "object" || value === null) throw wrong("it is no object");
  for (const name of ["nodes", "children", "chosen"]) {
    if (typeof value[name] !== "object" || value[name] === null) throw wrong(`${name} is missing`);
  }
  const talk = conversation("", Number(value.created) || 0);
  talk.title = String(value.title ?? "");
  for (const [id, node] of Object.entries(value.nodes)) {
    if (node?.role !== "user" && node?.role !== "assistant") throw wrong(`nodes.${id}.role is neither user nor assistant`);
    if (typeof node.content !== "string") throw wrong(`nodes.${id}.content is no text`);
    if (node.parent !== ROOT && !Object.hasOwn(value.nodes, node.parent)) throw wrong(`nodes.${id}.parent is not there`);
    // Ids grow, so a parent is always older: no circles.
    if (node.parent !== ROOT && Number(node.parent) >= Number(id)) throw wrong(`nodes.${id} comes before its parent`);
    talk.nodes[id] = {
      id, parent: node.parent, role: node.role, content: node.content,
      time: Number(node.time) || 0, model: String(node.model ?? ""),
    };
    talk.children[id] ??= [];
    (talk.children[node.parent] ??= []).push(id);
  }
  for (const [parent, child] of Object.entries(value.chosen)) {
    if (talk.children[parent]?.includes(child)) talk.chosen[parent] = child;
  }
  return talk;
}
