// Reads a stream until its first text, then breaks out of the loop.
import OpenAI from "openai";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 10_000 });
const messages = [{ role: "user", content: "Hello!" }];
const stream = await client.chat.completions.create({ model, messages, stream: true });
for await (const chunk of stream) {
  if (chunk.choices[0].delta.content) break;
}
console.log(JSON.stringify(stream.controller.signal.aborted));
