// The part of rival_graphile.py that runs on Node: migrates, or serves until SIGTERM.
//
// Counts into the tally of protocol.py, with the same layout: each process has a slot with a head (process id, runs,
// seconds of the first and last run's start, pick-up times; 8 bytes each) and the pick-up times. Node cannot map memory,
// so it writes the head once per turn of the event loop, with exact values. On Linux, `hrtime` and Python's
// `time.monotonic` are the same clock.

import { openSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const orders = JSON.parse(process.argv[2]);
const installed = createRequire(join(orders.folder, "package.json")).resolve("graphile-worker");
const { Logger, makeWorkerUtils, run } = await import(pathToFileURL(installed).href);

const HEAD = 40;

const now = () => Number(process.hrtime.bigint()) / 1e9;

class Tally {
  constructor({ tally, slots, latencies }) {
    this.latencies = latencies;
    this.offset = takeSlot(tally, slots) * (HEAD + 8 * latencies);
    this.file = openSync(tally, "r+");
    this.head = Buffer.alloc(HEAD);
    this.head.writeBigInt64LE(BigInt(process.pid), 0);
    this.runs = 0;
    this.times = 0;
    this.last = 0;
    this.due = false;
  }

  ran() {
    this.last = now();
    if (this.runs === 0) this.head.writeDoubleLE(this.last, 16);
    this.runs += 1;
    if (!this.due) {
      this.due = true;
      setImmediate(() => this.write());
    }
  }

  pickedUp(sent) {
    const late = now() - sent;
    if (this.times < this.latencies) {
      const time = Buffer.alloc(8);
      time.writeDoubleLE(late, 0);
      writeSync(this.file, time, 0, 8, this.offset + HEAD + 8 * this.times);
      this.times += 1;
    }
    this.ran();
  }

  write() {
    this.due = false;
    this.head.writeBigInt64LE(BigInt(this.runs), 8);
    this.head.writeDoubleLE(this.last, 24);
    this.head.writeBigInt64LE(BigInt(this.times), 32);
    writeSync(this.file, this.head, 0, HEAD, this.offset);
  }
}

// Node has no lock that Python's processes would see. But all workers of a tally are Node processes: the one that creates
// the slot's lock file has the slot.
function takeSlot(tally, slots) {
  for (let slot = 0; slot < slots; slot += 1) {
    try {
      openSync(`${tally}.slot-${slot}`, "wx");
      return slot;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
  }
  throw new Error(`more than ${slots} processes count into one tally`);
}

// A log line per job would be measured too.
const logger = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(level, message);
});

async function setup() {
  const utils = await makeWorkerUtils({ connectionString: orders.url, logger });
  await utils.migrate();
  await utils.release();
}

async function work() {
  const tally = new Tally(orders);
  const pause = orders.sleep * 1000;
  const taskList = {
    nothing: pause
      ? async () => {
          tally.ran();
          await new Promise((resolve) => setTimeout(resolve, pause));
        }
      : async () => tally.ran(),
    stamp: async ({ sent }) => tally.pickedUp(sent),
  };
  const concurrentJobs = orders.concurrency ?? 24;
  const batching = orders.local_queue
    ? { localQueue: { size: orders.local_queue }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
    : {};
  const worker = { connectionString: orders.url, concurrentJobs, maxPoolSize: concurrentJobs + 1, logger, ...batching };
  const runner = await run({ preset: { worker }, taskList, parsedCronItems: [] });
  await runner.promise;
}

await { setup, work }[orders.verb]();
