// Prints the secrets that the official client accepts a webhook with: node validate_webhook.mjs '{"headers", "body", "secrets"}'
import { validateWebhook } from "replicate";

const { headers, body, secrets } = JSON.parse(process.argv[2]);
const said = [];
for (const secret of secrets) {
  said.push(
    await validateWebhook({
      id: headers["webhook-id"],
      timestamp: headers["webhook-timestamp"],
      signature: headers["webhook-signature"],
      body,
      secret,
    }),
  );
}
console.log(JSON.stringify(said));
