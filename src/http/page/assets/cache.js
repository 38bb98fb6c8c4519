// The KV cache as a picture: the text of the context, each token coloured by the attention that it received. What every
// head has evicted is grey, what some have evicted is fainter.

import { get, Refusal } from "./api.js";
import { h, field } from "./dom.js";
import { count, number, percent } from "./format.js";

/** Between two looks while tokens come: milliseconds. */
const EVERY = 400;
const LEVELS = 9;

/**
 * The colour of a token: 0 is none, `LEVELS` the most. `score` is a share of all attention and `kept` how many tokens share
 * it, so that 1 is what a token would have if all had the same.
 */
export function level(score, kept) {
  const times = score * kept;
  if (!(times > 0)) return 0;
  return Math.max(1, Math.min(LEVELS, Math.round(4 + 1.4 * Math.log2(times))));
}

/** How much of a token is left: 0 no head holds it, 1 a third of them at most, 2 two thirds, 3 more. */
export function held(share) {
  if (share <= 0) return 0;
  return Math.min(3, 1 + Math.floor(share * 3));
}

/** A panel in `body`; `where` says which session to look at and whether it is being answered in. */
export function cachePanel(body, where) {
  const which = { layer: "", head: "" };
  let shown = [];
  let stopped = false;
  let timer = null;
  let asking = false;
  let picture = null;
  const choice = (name) => h("select", { "aria-label": name, onchange: (event) => { which[name] = event.target.value; look(); } },
    h("option", { value: "" }, "all"));
  const layer = choice("layer");
  const head = choice("head");
  const summary = h("p", { class: "summary", id: "cache-summary" });
  const bar = h("meter", { min: 0, max: 1, value: 0, "aria-label": "Share of the tokens that is kept" });
  const about = h("p", { class: "dim about" }, "Point at a token to see its figures.");
  const text = h("div", { class: "tokens", id: "tokens", role: "figure", "aria-labelledby": "cache-summary", tabindex: 0 });
  const legend = h("p", { class: "legend" }, "attention: less ",
    Array.from({ length: LEVELS }, (_, index) => h("span", { class: `token s${index + 1}` }, "\u2002")), " more ",
    h("span", { class: "token k1" }, "evicted by most heads"), ", ", h("span", { class: "token k0" }, "by all"));
  const point = (event) => {
    const at = event.target.dataset?.at;
    if (at === undefined || !picture) return;
    const kept = picture.kept[at];
    const score = picture.scores?.[at];
    about.textContent = `Token ${Number(at) + 1}, “${(picture.texts[at] ?? "?").replace(/\n/g, "⏎")}”: `
      + (kept === 0 ? "evicted by every head" : `kept by ${percent(kept)} of the heads`)
      + (score === undefined ? "" : `, ${number(100 * score)} % of the attention`);
  };
  text.addEventListener("pointerover", point);
  text.addEventListener("click", point);
  body.append(
    h("div", { class: "pair" }, field("Layer", layer), field("KV head", head)),
    summary, bar, legend, about, text);

  function options(select, total) {
    if (select.options.length === total + 1) return;
    select.append(...Array.from({ length: total }, (_, index) => h("option", { value: String(index) }, String(index))));
    while (select.options.length > total + 1) select.lastChild.remove();
  }

  function clear(words) {
    picture = null;
    shown = [];
    text.replaceChildren();
    bar.value = 0;
    summary.textContent = words;
  }

  function draw(found) {
    picture = found;
    options(layer, found.layers);
    options(head, found.kv_heads);
    const evicted = found.kept.filter((share) => share === 0).length;
    const fading = found.kept.filter((share) => share > 0 && share < 0.5).length;
    const share = found.tokens_seen ? found.tokens_kept / found.tokens_seen : 0;
    summary.textContent = `${found.policy}${found.budget ? `, budget ${count(found.budget)}` : ""}: ${count(found.tokens_seen)} tokens seen, `
      + `${count(found.tokens_kept)} kept a head (${percent(share)}), ${count(evicted)} evicted by all`
      + `${fading ? `, ${count(fading)} by most` : ""}.`
      + (found.scored_by === null ? " This policy measures no attention." : "");
    bar.value = share;
    const follow = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
    for (let at = 0; at < found.kept.length; at += 1) {
      const look = `token k${held(found.kept[at])} s${found.kept[at] > 0 ? level(found.scores?.[at] ?? 0, found.tokens_kept) : 0}`;
      const words = found.texts[at] ?? "·";
      let span = shown[at];
      if (!span) {
        span = h("span", { data: { at } });
        shown.push(span);
        text.append(span);
      }
      if (span.className !== look) span.className = look;
      const printed = words.replace(/\n/g, "⏎\n");
      if (span.textContent !== printed) span.textContent = printed;
    }
    while (shown.length > found.kept.length) shown.pop().remove();
    if (follow) text.scrollTop = text.scrollHeight;
  }

  async function look() {
    const { session, busy } = where();
    clearTimeout(timer);
    if (stopped || asking) return;
    if (session && !session.begun) {
      clear("The prompt is being read.");
    } else if (!session) {
      clear("Nothing is kept yet. With “Keep the cache between turns” in the settings, the cache of a chat is shown here once it begins.");
    } else {
      asking = true;
      try {
        const query = new URLSearchParams({ model: session.model });
        for (const [name, value] of Object.entries(which)) if (value !== "") query.set(name, value);
        const asked = JSON.stringify(which);
        const found = await get(`/v1/sessions/${session.name}/kv?${query}`);
        // A choice that was made meanwhile is looked at next.
        if (!stopped && asked === JSON.stringify(which)) draw(found);
        else if (!stopped) timer = setTimeout(look, 0);
      } catch (error) {
        if (stopped) return;
        if (error instanceof Refusal && error.status === 404) clear(busy ? "The prompt waits to be read." : "The server no longer has this chat's cache: the next message reads it anew.");
        else if (error instanceof Refusal && error.status === 400) { which.layer = ""; which.head = ""; layer.value = ""; head.value = ""; }
        else clear(`The cache cannot be looked at: ${error.message}`);
      } finally {
        asking = false;
      }
    }
    if (!stopped && where().busy) timer = setTimeout(look, EVERY);
  }

  look();
  return {
    look,
    stop() { stopped = true; clearTimeout(timer); },
  };
}
