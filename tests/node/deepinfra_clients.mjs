// Calls the server with DeepInfra's Node client and the AI SDK provider; prints the results as one JSON document.
import { createDeepInfra } from "@ai-sdk/deepinfra";
import { generateText, streamText } from "ai";
import { TextGeneration } from "deepinfra";
import OpenAI from "openai";

const [base, apiKey, model] = process.argv.slice(2);
const prompt = "[INST] Hello! [/INST]";
globalThis.AI_SDK_LOG_WARNINGS = false;

const native = await new TextGeneration(`${base}/v1/inference/${model}`, apiKey).generate({
  input: prompt,
  temperature: 0,
});

const provider = createDeepInfra({ baseURL: `${base}/v1`, apiKey });
const asked = { model: provider(model), prompt: "Hello!", temperature: 0, maxRetries: 0 };
const whole = await generateText(asked);
let streamed = "";
const stream = streamText(asked);
for await (const text of stream.textStream) streamed += text;

const openai = new OpenAI({ baseURL: `${base}/v1/openai`, apiKey, maxRetries: 0 });
const chunks = [];
const chat = { model, messages: [{ role: "user", content: "Hello!" }], temperature: 0, stream: true };
for await (const chunk of await openai.chat.completions.create(chat)) chunks.push(chunk);

console.log(
  JSON.stringify({
    native,
    whole: whole.text,
    usage: whole.usage,
    streamed,
    finish: await stream.finishReason,
    chunks,
  }),
);
