// What the page asks the server: JSON, and server-sent events over fetch, which can carry a key.

const KEY = "llamahome.key";
const watchers = new Set();

/** The API key of this tab. It is forgotten when the tab closes. */
export function key() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setKey(text) {
  if (text) sessionStorage.setItem(KEY, text);
  else sessionStorage.removeItem(KEY);
  for (const watcher of watchers) watcher();
}

/** Calls `watcher` when the key changes. */
export function onKey(watcher) {
  watchers.add(watcher);
}

/** What the server refused, and why. */
export class Refusal extends Error {
  constructor(status, body, retryAfter) {
    const error = body?.error ?? {};
    const text = error.message ?? (typeof body?.error === "string" ? body.error : "");
    super(text || `the server answered ${status}`);
    this.status = status;
    this.code = error.code ?? null;
    this.param = error.param ?? null;
    this.retryAfter = retryAfter;
    this.body = error;
  }
}

/** What a person can do about an error. */
export function advice(error) {
  if (!(error instanceof Refusal)) {
    return "The server cannot be reached. Is llamahome still running?";
  }
  switch (error.code) {
    case "missing_api_key":
    case "invalid_api_key":
      return "Enter the key with the button at the top right.";
    case "scope_missing":
      return "Enter a key that may manage.";
    case "context_length_exceeded":
      return "Begin a new chat, shorten the message, or lower the answer's length in the settings.";
    case "kv_too_large":
      return "Set a smaller KV budget in the settings.";
    case "model_not_found":
      return "Choose another model at the top.";
    case "worker_lost":
    case "computation_failed":
      return "Try it again: a fresh worker has taken over.";
    default:
      return error.retryAfter ? `Try again in ${error.retryAfter} s.` : "";
  }
}

async function send(method, path, body, signal) {
  const headers = {};
  if (key()) headers.Authorization = `Bearer ${key()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const reply = await fetch(path, {
    method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store",
  });
  if (!reply.ok) {
    let told = null;
    try { told = await reply.json(); } catch { /* A proxy's page: the status says it. */ }
    throw new Refusal(reply.status, told, reply.headers.get("retry-after"));
  }
  return reply;
}

export async function get(path, signal) {
  return (await send("GET", path, undefined, signal)).json();
}

export async function post(path, body, signal) {
  return (await send("POST", path, body ?? {}, signal)).json();
}

export async function erase(path) {
  return (await send("DELETE", path)).json();
}

/** Lines of a body as they come. */
async function* lines(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      rest += value;
      const all = rest.split("\n");
      rest = all.pop();
      for (const line of all) yield line.endsWith("\r") ? line.slice(0, -1) : line;
    }
    if (rest) yield rest;
  } finally {
    // Leaving the loop early closes the connection, which tells the server to stop.
    reader.cancel().catch(() => {});
  }
}

/** The events of a stream as JSON, until `[DONE]` or the end. */
export async function* events(method, path, body, signal) {
  const reply = await send(method, path, body, signal);
  for await (const line of lines(reply)) {
    if (!line.startsWith("data:")) continue;
    const data = line.slice(5).trim();
    if (data === "[DONE]") return;
    yield JSON.parse(data);
  }
}

/** One JSON value a line, as Ollama's routes stream. */
export async function* ndjson(path, body, signal) {
  const reply = await send("POST", path, body, signal);
  for await (const line of lines(reply)) {
    if (line.trim()) yield JSON.parse(line);
  }
}

/** Resolves when somebody sees the page. */
function seen(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look, { once: true });
  });
}

/**
 * Follows a stream of events, again and again after it ends, until `over()` says so or `signal` is aborted. A page that nobody
 * sees follows nothing: browsers open six connections to a server, and other tabs want some.
 */
export async function follow(path, signal, told, broken, over) {
  let wait = 500;
  while (!signal.aborted) {
    await seen(signal);
    const shown = new AbortController();
    const hide = () => { if (document.hidden) shown.abort(); };
    document.addEventListener("visibilitychange", hide);
    try {
      const either = AbortSignal.any([signal, shown.signal]);
      for await (const event of events("GET", typeof path === "function" ? path() : path, undefined, either)) {
        wait = 500;
        told(event);
      }
      if (over?.()) return;
    } catch (error) {
      if (signal.aborted) return;
      if (shown.signal.aborted) continue;
      broken?.(error);
      if (error instanceof Refusal && error.status < 500) return;
    } finally {
      document.removeEventListener("visibilitychange", hide);
    }
    if (signal.aborted) return;
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 2, 8000);
  }
}
