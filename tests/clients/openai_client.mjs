// Asks a running llamahome with OpenAI's own client for Node; throws, and says "all passed" when all is as it should be.
//
//     node tests/clients/openai_client.mjs FOLDER_OF_THE_PACKAGE http://127.0.0.1:8085/v1 KEY MODEL

import assert from "node:assert/strict";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [folder, baseURL, apiKey, model] = process.argv.slice(2);
const { default: OpenAI } = await import(pathToFileURL(path.join(folder, "index.mjs")));
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const said = (content) => [{ role: "user", content }];

const ask = { model, messages: said("Say hello."), max_completion_tokens: 8, temperature: 0 };
const whole = await client.chat.completions.create(ask);
assert.ok(whole.choices[0].message.content.length > 0);
assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
let text = "";
for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(text, whole.choices[0].message.content);

const schema = { type: "object", properties: { colour: { enum: ["red", "blue"] } }, required: ["colour"], additionalProperties: false };
const form = await client.chat.completions.parse({ model, messages: said("Name a colour."), max_completion_tokens: 40,
  response_format: { type: "json_schema", json_schema: { name: "colour", strict: true, schema } } });
assert.ok(["red", "blue"].includes(JSON.parse(form.choices[0].message.content).colour));

const tools = [{ type: "function", function: { name: "weather", parameters: {
  type: "object", properties: { city: { type: "string", maxLength: 12 } }, required: ["city"], additionalProperties: false } } }];
const call = await client.chat.completions.create({ model, messages: said("How is the weather in Ljubljana?"), tools,
  tool_choice: "required", max_completion_tokens: 60, parallel_tool_calls: false });
const [made] = call.choices[0].message.tool_calls;
assert.equal(made.function.name, "weather");
assert.equal(typeof JSON.parse(made.function.arguments).city, "string");
const streamed = client.chat.completions.stream({ model, messages: said("How is the weather in Ljubljana?"), tools, seed: 1,
  tool_choice: "required", max_completion_tokens: 60, parallel_tool_calls: false });
const final = await streamed.finalChatCompletion();
assert.equal(typeof JSON.parse(final.choices[0].message.tool_calls[0].function.arguments).city, "string");

const vectors = await client.embeddings.create({ model, input: ["a cat", "a kitten"] });
assert.equal(vectors.data.length, 2);
const length = Math.hypot(...vectors.data[0].embedding);
assert.ok(Math.abs(length - 1) < 1e-3, `${length}`);

const models = [];
for await (const each of client.models.list()) models.push(each.id);
assert.ok(models.includes(model));

await assert.rejects(client.chat.completions.create({ ...ask, model: "nobody" }), (error) => error instanceof OpenAI.NotFoundError
  && error.code === "model_not_found");
await assert.rejects(client.chat.completions.create({ ...ask, temperature: 9 }), (error) => error instanceof OpenAI.BadRequestError
  && error.param === "temperature");
await assert.rejects(new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 }).models.list(), OpenAI.AuthenticationError);
console.log("all passed");
