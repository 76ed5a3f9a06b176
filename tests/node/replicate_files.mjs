// Calls the official client's `files` methods; prints the results as JSON: node replicate_files.mjs <base URL> <key>
import Replicate from "replicate";

const [baseUrl, auth] = process.argv.slice(2);
const replicate = new Replicate({ baseUrl, auth });

const blob = new File(["from node"], "node.txt", { type: "text/plain" });
const created = await replicate.files.create(blob, { customer: 7 });
const buffered = await replicate.files.create(Buffer.from([0, 255]));
const read = await replicate.files.get(created.id);
const listed = await replicate.files.list();
const deleted = await replicate.files.delete(created.id);
const after = (await replicate.files.list()).results.map((file) => file.id);
console.log(JSON.stringify({ created, buffered, read, listed, deleted, after }));
