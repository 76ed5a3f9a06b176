// Calls every route of the OpenAI API with the official client; prints the results as one JSON document.
import OpenAI from "openai";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 10_000 });
const messages = [{ role: "user", content: "Hello!" }];
const chat = { model, messages };

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, code: error.code ?? null, param: error.param ?? null };
  }
  return null;
}

const first = await client.chat.completions.create(chat).withResponse();
const keyed = { headers: { "Idempotency-Key": "node-1" } };
const once = await client.chat.completions.create(chat, keyed).withResponse();
const again = await client.chat.completions.create(chat, keyed).withResponse();

const results = {
  whole: first.data,
  headers: Object.fromEntries([...first.response.headers].filter(([name]) => name.startsWith("corral-"))),
  replayed: [once.response.headers.get("idempotency-replayed"), again.response.headers.get("idempotency-replayed")],
  sameId: once.data.id === again.data.id,
  streamed: await collect(await client.chat.completions.create({ ...chat, stream: true, n: 4 })),
  logprobs: await client.chat.completions.create({ ...chat, logprobs: true, top_logprobs: 1, temperature: 0 }),
  constrained: await client.chat.completions.create({ ...chat, response_format: { type: "json_object" } }),
  completion: await client.completions.create({ model, prompt: "Once", echo: true, logprobs: 0 }),
  completionStreamed: await collect(await client.completions.create({ model, prompt: [1, 2], stream: true })),
  models: (await client.models.list()).data,
  modelFound: await client.models.retrieve(model),
  estimate: await client.post("/estimate", { body: { ...chat, max_tokens: 100 } }),
  refusals: {
    unknownModel: await refusal(client.chat.completions.create({ model: "a/b", messages })),
    tools: await refusal(
      client.chat.completions.create({ ...chat, tools: [{ type: "function", function: { name: "f" } }] }),
    ),
    range: await refusal(client.chat.completions.create({ ...chat, temperature: 3 })),
    otherBody: await refusal(client.chat.completions.create({ ...chat, seed: 1 }, keyed)),
    key: await refusal(client.withOptions({ apiKey: "wrong" }).models.list()),
  },
};
console.log(JSON.stringify(results));
