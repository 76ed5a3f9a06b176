// Calls every route of the Replicate API with the official client; prints the results as one JSON document:
// node replicate_door.mjs '{"real", "slow", "speaking", "chat", "tiny", "seconds", "endless"}'
// The first three are server URLs: with the demo model, with a slow scripted engine, and with a fixed answer.
import Replicate from "replicate";

const { real, slow, speaking, chat, tiny, seconds, endless } = JSON.parse(process.argv[2]);
let requests = 0;

function counted(...given) {
  requests += 1;
  return fetch(...given);
}

function clientOf(url, options = {}) {
  return new Replicate({ baseUrl: `${url}/v1`, fetch: counted, ...options });
}

async function refusal(promise) {
  requests = 0;
  try {
    await promise;
  } catch (error) {
    return { name: error.name, status: error.response?.status ?? null, message: error.message, requests };
  }
  return null;
}

async function collect(iterable) {
  const items = [];
  for await (const item of iterable) items.push(item);
  return items;
}

async function track(client, ref, options) {
  const seen = [];
  const output = await client.run(ref, options, ({ id, status }) => seen.push({ id, status }));
  return { output, seen, stored: (await client.predictions.get(seen[0].id)).output };
}

const client = clientOf(real);
const slowly = clientOf(slow);
const input = { prompt: "What are you?", seed: 7, max_tokens: 40 };
const tooLong = { prompt: "word ".repeat(5000) };

async function canceledInMidStream() {
  const events = [];
  let answer = null;
  for await (const event of slowly.stream(tiny, { input: endless })) {
    events.push(event);
    if (answer === null) {
      const [newest] = (await slowly.predictions.list()).results;
      answer = await slowly.predictions.cancel(newest.id);
    }
  }
  return { answer, events, later: await slowly.predictions.get(answer.id) };
}

async function aborted() {
  const controller = new AbortController();
  const seen = [];
  const options = { input: endless, signal: controller.signal, wait: { mode: "poll", interval: 20 } };
  const output = await slowly.run(tiny, options, (prediction) => {
    seen.push(prediction.status);
    if (prediction.output) controller.abort();
  });
  return { output, seen };
}

async function models() {
  const model = await client.models.get(...chat.split("/"));
  const [collection] = (await client.collections.list()).results;
  return {
    model,
    listed: (await client.models.list()).results.map(({ owner, name }) => `${owner}/${name}`),
    searched: (await client.models.search("llama")).results.map(({ owner, name }) => `${owner}/${name}`),
    nothing: (await client.models.search("no such model")).results,
    versions: (await client.models.versions.list(...chat.split("/"))).results.map(({ id }) => id),
    version: (await client.models.versions.get(...chat.split("/"), model.latest_version.id)).id,
    collection: await client.collections.get(collection.slug),
    hardware: await client.hardware.list(),
    account: await client.accounts.current(),
    secret: await client.webhooks.default.secret.get(),
  };
}

const { latest_version: tinyVersion } = await slowly.models.get(...tiny.split("/"));
const short = { input: seconds, wait: { mode: "block", timeout: 1 } };
const [unversioned, versioned] = await Promise.all([
  track(slowly, tiny, short),
  track(slowly, `${tiny}:${tinyVersion.id}`, short),
]);
const created = await client.predictions.create({ model: chat, input });
const speaker = clientOf(speaking);

console.log(
  JSON.stringify({
    whole: await track(client, chat, { input }),
    ofVersion: await track(client, `${chat}:${(await client.models.get(...chat.split("/"))).latest_version.id}`, { input }),
    polled: await track(client, chat, { input, wait: { mode: "poll", interval: 20 } }),
    waited: await client.wait(created, { interval: 20 }),
    streamed: await collect(client.stream(chat, { input })),
    unversioned,
    versioned,
    canceled: await canceledInMidStream(),
    aborted: await aborted(),
    refusals: {
      wrongKey: await refusal(clientOf(real, { auth: "wrong" }).predictions.create({ model: chat, input })),
      unknown: await refusal(client.predictions.cancel("0".repeat(26))),
      tooLong: await refusal(client.run(chat, { input: tooLong })),
      tooLongStreamed: await refusal(collect(client.stream(chat, { input: tooLong }))),
    },
    models: await models(),
    pages: await collect(slowly.paginate(slowly.predictions.list)),
    spoken: {
      ...(await track(speaker, tiny, { input: { prompt: "Speak!" } })),
      events: await collect(speaker.stream(tiny, { input: { prompt: "Speak!" } })),
    },
  }),
);
