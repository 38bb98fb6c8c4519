// One answer: the request, its stream, the session whose cache it goes on with, and what it says about itself.

import { events, erase, Refusal } from "./api.js";
import { settings, fields, kv } from "./settings.js";
import { count, duration, bytes } from "./format.js";

const AGAIN = 20;

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}

/** How the settings bound the cache, as a session remembers it. */
function bounds() {
  return JSON.stringify(kv() ?? null);
}

/** Whether the session's cache has exactly what comes before the last message. */
function goesOn(session, model, said) {
  return session && session.model === model && session.kv === bounds()
    && session.history === JSON.stringify(said.slice(0, -1));
}

/** Forgets a session on the server; it does not matter whether it was still there. */
export function forget(session) {
  if (session) erase(`/v1/sessions/${session.name}?model=${encodeURIComponent(session.model)}`).catch(() => {});
}

/** The session to use for `said`: the one of the conversation while it goes on, else a new one. */
export function sessionFor(talk, model, said) {
  if (!settings.keep) return null;
  if (goesOn(talk.session, model, said)) return talk.session;
  forget(talk.session);
  const name = `page-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  talk.session = { name, model, kv: bounds(), history: null, begun: false };
  return talk.session;
}

/**
 * Asks for an answer to `said` and fills `node` with it; `told` is called after each change.
 * A refusal is thrown; what came before it stays in `node`.
 */
export async function answer(talk, node, said, model, signal, told) {
  const begun = performance.now();
  let session = sessionFor(talk, model, said);
  node.notices = [];
  for (let attempt = 0; ; attempt += 1) {
    try {
      await once(node, said, model, session, signal, begun, told);
      if (session) session.history = JSON.stringify([...said, { role: "assistant", content: node.content }]);
      return;
    } catch (error) {
      const fresh = node.content === "" && !signal.aborted && error instanceof Refusal;
      if (fresh && error.code === "session_busy" && attempt < AGAIN) {
        // The turn that was just stopped ends with the step in flight.
        await pause(250, signal);
      } else if (fresh && error.code === "session_not_found" && attempt === 0) {
        talk.session = null;
        session = sessionFor(talk, model, said);
        node.notices.push("The server no longer had the cache of this chat: it was read from the beginning.");
      } else {
        throw error;
      }
    }
  }
}

async function once(node, said, model, session, signal, begun, told) {
  const body = {
    model: model || undefined, messages: said, stream: true, stream_options: { include_usage: true },
    session: session?.name, ...fields(),
  };
  let end = {};
  for await (const chunk of events("POST", "/v1/chat/completions", body, signal)) {
    if (chunk.error) throw new Refusal(0, chunk, null);
    const choice = chunk.choices?.[0];
    const delta = choice?.delta ?? {};
    if (delta.content) {
      if (node.content === "") node.first = performance.now() - begun;
      // From here on there is a cache to look at.
      if (session) session.begun = true;
      node.content += delta.content;
    }
    if (delta.reasoning_content) node.reasoning = (node.reasoning ?? "") + delta.reasoning_content;
    if (choice?.finish_reason) end = { ...end, reason: choice.finish_reason };
    if (chunk.usage) end.usage = chunk.usage;
    if (chunk.kv) end.kv = chunk.kv;
    if (chunk.timings) end.timings = chunk.timings;
    told();
  }
  node.end = end;
  if (!end.reason) node.notices.push("The stream ended before the answer did.");
  node.notices.push(...notices(end));
}

/** What the end of an answer has to say beyond its text. */
export function notices(end) {
  const found = [];
  const cache = end.kv;
  if (end.reason === "length") found.push("The answer was cut at its longest length: raise it in the settings, or write “go on”.");
  else if (end.reason && end.reason !== "stop" && end.reason !== "tool_calls") found.push(`The answer ended with “${end.reason}”.`);
  if (cache?.evicted > 0) {
    found.push(`${count(cache.evicted)} of ${count(cache.tokens_seen)} tokens were evicted from the KV cache (${cache.policy}`
      + `${cache.budget ? `, budget ${count(cache.budget)}` : ""}): the model no longer sees them.`);
  }
  if (cache?.recalled > 0) found.push(`${count(cache.recalled)} evicted tokens were recalled for this answer.`);
  if (cache?.rebased > 0) found.push(`The text runs past the model's context: positions were renumbered ${count(cache.rebased)} times.`);
  if (cache?.spilled_bytes > 0) found.push(`${bytes(cache.spilled_bytes)} of evicted tokens were spilled.`);
  return found;
}

/** The line of figures under an answer. */
export function figures(node) {
  const { usage, timings, kv: cache } = node.end ?? {};
  const parts = [];
  if (usage) {
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
    parts.push(`${count(usage.prompt_tokens)} + ${count(usage.completion_tokens)} tokens${cached ? ` (${count(cached)} cached)` : ""}`);
  }
  const seconds = timings && (timings.total_ms - timings.first_token_ms) / 1000;
  if (usage && seconds > 0 && usage.completion_tokens > 1) {
    parts.push(`${((usage.completion_tokens - 1) / seconds).toFixed(1)} tokens/s`);
  }
  if (timings) parts.push(`first token ${duration(timings.first_token_ms / 1000)}`);
  else if (node.first) parts.push(`first token ${duration(node.first / 1000)}`);
  if (cache) parts.push(`KV ${bytes(cache.bytes)}`);
  return parts.join(" · ");
}
