// One call of the `openai` library.

import OpenAI from "openai";

import { call, leaving, print, run } from "./call.mjs";

const client = new OpenAI({
  baseURL: `${call.url}/v1`,
  apiKey: call.key || "ollama",
  defaultHeaders: call.headers,
  maxRetries: call.retries,
});
const messages = [{ role: "user", content: call.text }];
const options = { signal: leaving.signal };

const verbs = {
  async say() {
    const answer = await client.chat.completions.create({ model: call.model, messages }, options);
    return answer.choices[0].message.content;
  },
  async stream() {
    const chunks = await client.chat.completions.create({ model: call.model, messages, stream: true }, options);
    for await (const chunk of chunks) {
      if (chunk.choices[0].finish_reason === null) print({ value: chunk.choices[0].delta.content });
    }
  },
  async callTool() {
    const answer = await client.chat.completions.create({ model: call.model, messages, tools: [call.tool] });
    const { name, arguments: given } = answer.choices[0].message.tool_calls[0].function;
    return [name, JSON.parse(given)];
  },
  async embed() {
    const answer = await client.embeddings.create({ model: call.model, input: call.texts });
    return answer.data.map((one) => one.embedding);
  },
  async models() {
    return (await client.models.list()).data.map((model) => model.id);
  },
  async show() {
    return (await client.models.retrieve(call.model)).id;
  },
};

await run(verbs, (error) => ({ status: error.status, text: error.error?.message ?? error.message }));
