// The API as /openapi.json describes it: groups of routes, and for each what it takes and tells.

import { columns, h, put, say } from "./dom.js";

const view = document.getElementById("view");

/** What a schema is in a few words. */
function words(schema, all) {
  if (schema.$ref) return words(all[schema.$ref.split("/").pop()], all);
  if (schema.anyOf) return [...new Set(schema.anyOf.map((each) => words(each, all)))].join(" | ");
  if (schema.enum) return schema.enum.filter((each) => each !== null).map((each) => JSON.stringify(each)).join(" | ");
  const kinds = [schema.type ?? "any"].flat().filter((kind) => kind !== "null");
  const kind = kinds[0] === "array" ? `list of ${words(schema.items ?? {}, all)}` : kinds.join(" | ");
  const least = schema.minimum ?? (schema.exclusiveMinimum !== undefined ? `above ${schema.exclusiveMinimum}` : undefined);
  const range = least !== undefined && schema.maximum !== undefined ? ` ${least} to ${schema.maximum}` : "";
  return kind + (kind === "integer" || kind === "number" ? range : "");
}

function fields(name, all) {
  const schema = all[name];
  const required = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {}).map(([field, each]) =>
    h("tr", {}, h("th", { scope: "row" }, h("code", {}, field)), h("td", {}, words(each, all)),
      h("td", {}, required.has(field) ? "yes" : ""), h("td", {}, each.description ?? "")));
  if (!rows.length) return h("p", {}, "An object.");
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Fields of ${name}` },
    h("table", {}, columns(["Field", "Value", "Needed", "Meaning"], []), h("tbody", {}, rows)));
}

function shape(content, all) {
  return Object.entries(content ?? {}).map(([type, each]) => {
    const name = each.schema?.$ref?.split("/").pop();
    return [h("p", {}, h("code", {}, type)), name && fields(name, all)];
  });
}

function route(method, path, operation, all) {
  const parameters = operation.parameters.map((each) =>
    h("li", {}, h("code", {}, each.name), ` (${each.in}, ${words(each.schema, all)}) ${each.description ?? ""}`));
  const [status, answer] = Object.entries(operation.responses)[0];
  return h("details", { id: `${method}${path}` },
    h("summary", {}, h("code", {}, `${method.toUpperCase()} ${path}`), ` ${operation.summary}`),
    operation.description && h("p", {}, operation.description.replaceAll("`", "")),
    !operation.security.length && h("p", {}, "Needs no key."),
    parameters.length > 0 && [h("h3", {}, "Parameters"), h("ul", {}, parameters)],
    operation.requestBody && [h("h3", {}, "Body"), shape(operation.requestBody.content, all)],
    h("h3", {}, `Answer ${status}`), answer.content ? shape(answer.content, all) : h("p", {}, "No body."));
}

async function show() {
  const told = await fetch("/openapi.json");
  if (!told.ok) throw new Error(`the server answered ${told.status}`);
  const api = await told.json();
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const group = operation.tags[0];
      groups.set(group, [...(groups.get(group) ?? []), route(method, path, operation, api.components.schemas)]);
    }
  }
  put(view, h("p", {}, `llamahome ${api.info.version}. A key is sent as Authorization: Bearer, or as x-api-key.`),
    [...groups].map(([group, routes]) => h("section", { "aria-label": group }, h("h2", {}, group), routes)));
  say("The API is shown.");
}

show().catch((error) => put(view, h("p", { role: "alert" }, `The description cannot be read: ${error.message}`)));
