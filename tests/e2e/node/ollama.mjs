// One call of the `ollama` library.

import { Ollama } from "ollama";

import { call, leaving, print, run } from "./call.mjs";

const headers = { ...(call.key && { Authorization: `Bearer ${call.key}` }), ...call.headers };
const client = new Ollama({ host: call.url, headers });
const messages = [{ role: "user", content: call.text }];

const verbs = {
  async say() {
    return (await client.chat({ model: call.model, messages })).message.content;
  },
  async stream() {
    const parts = await client.chat({ model: call.model, messages, stream: true });
    leaving.signal.addEventListener("abort", () => parts.abort());
    for await (const part of parts) {
      if (!part.done) print({ value: part.message.content });
    }
  },
  async callTool() {
    const answer = await client.chat({ model: call.model, messages, tools: [call.tool] });
    const { name, arguments: given } = answer.message.tool_calls[0].function;
    return [name, given];
  },
  async embed() {
    return (await client.embed({ model: call.model, input: call.texts })).embeddings;
  },
  async models() {
    return (await client.list()).models.map((model) => model.name);
  },
  async show() {
    return (await client.show({ model: call.model })).details.family;
  },
};

await run(verbs, (error) => ({ status: error.status_code, text: error.error ?? error.message }));
