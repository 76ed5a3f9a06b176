// Exhausts the rate limit of creates, then creates a prediction after the Retry-After delay, and one without it:
// node replicate_retries.mjs '{"url", "model", "input"}'
import Replicate from "replicate";

const { url, model, input } = JSON.parse(process.argv[2]);
const statuses = [];

function refused() {
  const headers = { authorization: `Bearer ${process.env.REPLICATE_API_TOKEN}`, "content-type": "application/json" };
  return fetch(`${url}/v1/models/${model}/predictions`, { method: "POST", headers, body: "{}" });
}

// The client waits little between its six attempts and ignores Retry-After.
async function patient(...given) {
  const response = await fetch(...given);
  statuses.push(response.status);
  if (response.status === 429) {
    const delayMs = 1000 * Number(response.headers.get("Retry-After"));
    await new Promise((resolve) => setTimeout(resolve, delayMs));
  }
  return response;
}

let { status } = await refused();
while (status === 422) ({ status } = await refused());
const client = new Replicate({ baseUrl: `${url}/v1`, fetch: patient });
const { id } = await client.predictions.create({ model, input });

async function impatient() {
  const hasty = new Replicate({ baseUrl: `${url}/v1` });
  try {
    return (await hasty.predictions.create({ model, input })).id;
  } catch (error) {
    return error.response.status;
  }
}

console.log(JSON.stringify({ id, statuses, refused: await impatient() }));
