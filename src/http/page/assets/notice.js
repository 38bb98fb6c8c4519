// What went wrong, where it is read out at once.

import { advice } from "./api.js";
import { h } from "./dom.js";

/** A notice of words and elements. */
export function alarm(...words) {
  return h("p", { class: "notice bad", role: "alert" }, ...words);
}

/** An error of the server or of the way to it, with what can be done about it. */
export function failure(error) {
  return alarm(error.message, " ", advice(error));
}
