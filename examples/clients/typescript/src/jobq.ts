// Adds jobs, waits for them, follows and lists them, by the HTTP API of `jobq server`.

import { EventSourceParserStream } from "eventsource-parser/stream";
import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./jobq-api.js";

export type Api = Client<paths>;
export type NewJob = components["schemas"]["NewJobBody"];
export type Job = components["schemas"]["JobDetail"];
export type JobState = components["schemas"]["JobState"];
export type JobSummary = components["schemas"]["JobView"];
export type JobEvent = components["schemas"]["JobEvent"];
export type Problem = components["schemas"]["Problem"];

/** The server refused a request; `problem` says why. */
export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(`${problem.status} ${problem.title}: ${problem.detail}`);
  }
}

/** Returns a client of a server. url: without a path, as http://127.0.0.1:8082. token: one of the server's. */
export function connect(url: string, token?: string): Api {
  const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  return createClient<paths>({ baseUrl: `${url}/api/v1`, headers });
}

/** Adds a job, and returns its id. */
export async function add(api: Api, job: NewJob): Promise<string> {
  return check(await api.POST("/jobs", { body: job })).id;
}

/** Waits until a job is over, or disabled: nothing happens to such a job by itself. */
export async function wait(api: Api, id: string): Promise<Job> {
  for (;;) {
    const params = { path: { id }, query: { timeout: 30 } };
    const job = check(await api.GET("/jobs/{id}/wait", { params }));
    if (job.finished || job.state === "disabled") return job;
  }
}

/** Yields the job at each change of its state or progress, until it is over. */
export async function* follow(api: Api, id: string): AsyncGenerator<JobEvent, void> {
  for (;;) {
    const stream = check(await api.GET("/jobs/{id}/events", { params: { path: { id } }, parseAs: "stream" }));
    const events = stream.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
    for await (const event of events) {
      if (event.event === "deleted") return;
      yield JSON.parse(event.data) as JobEvent;
      if (event.event === "end") return;
    }
    // The server ends a stream after half an hour.
  }
}

/** Yields the jobs in any of some states, newest first. */
export async function* list(api: Api, state: JobState[]): AsyncGenerator<JobSummary, void> {
  for (let after: string | null | undefined; after !== null; ) {
    const query = after === undefined ? { state } : { state, after };
    const page = check(await api.GET("/jobs", { params: { query } }));
    yield* page.jobs;
    after = page.next;
  }
}

function check<T>(answer: { data?: T; error?: Problem }): NonNullable<T> {
  if (answer.error !== undefined) throw new Refused(answer.error);
  return answer.data as NonNullable<T>;
}
