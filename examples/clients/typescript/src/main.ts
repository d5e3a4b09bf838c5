// Usage: node dist/main.js URL [TOKEN]

import { add, connect, follow, list, Refused, wait } from "./jobq.js";

const [url = "http://127.0.0.1:8082", token] = process.argv.slice(2);
const api = connect(url, token);

const id = await add(api, { kind: "send_receipt", arguments: { order_id: 7 }, tags: ["monthly"] });
for await (const event of follow(api, id)) console.log(`${event.state} ${event.progress.percent} %`);

const job = await wait(api, id);
console.log(`result: ${JSON.stringify(job.result)}`);

for await (const one of list(api, ["completed", "failed"])) console.log(`${one.kind} in ${one.queue}: ${one.state}`);

try {
  await add(api, { kind: "send_receipt", arguments: { order_id: "seven" } });
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  console.log(error.message);
}
