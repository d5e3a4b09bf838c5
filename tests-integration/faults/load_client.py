"""A client process: `python load_client.py URL PLAN`, where PLAN is a `Plan` as JSON. See `load.Load.client`.

It records each add before the call and after the answer, and each end that it is notified of.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import sys
from collections.abc import Iterator
from typing import Any

import load_jobs
import msgspec
from journal import (
    AbortAnswered,
    Aborting,
    Answer,
    Answered,
    Asked,
    Heard,
    Journal,
    Listening,
    RequestAnswered,
    Requesting,
    Told,
    now,
)

from jobq_client import JobHandle, JobQueueClient
from jobq_core import Job
from jobq_core.errors import (
    ClosedError,
    JobDisabledError,
    JobError,
    JobQueueError,
    StorageError,
    StorageUnavailableError,
    WaitTimeoutError,
)
from jobq_core.events import JobAborted, JobCompleted, JobFailed
from jobq_core.states import JobState

EVENTS = {JobCompleted: JobState.COMPLETED, JobFailed: JobState.FAILED, JobAborted: JobState.ABORTED}
ENDS = {"doomed": JobState.FAILED}
"""The final state of the kinds of jobs that do not complete."""
NOT_ADDED = re.compile(r"job \S+ was not added: ")
"""The client's message if it never sent a job; after any other error the job may or may not have been added."""
SOON = 0.3
"""Maximum seconds between a job's add and its abort. Most aborts come much earlier: many jobs have ended by then."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The actions of a client.

    name: prefix of the tokens. jobs: number of jobs to add. callers: number of concurrent tasks. rate: adds per second
    of all tasks together (None: no limit). kinds: the weights of `make`. many: one in `many` adds takes 20 jobs by
    add_many (0: none). keys: number of unique keys, which every fifth job uses (0: none). delayed: the share of jobs
    that become due later, by up to longest_delay seconds. aborted: the share of jobs that the client aborts soon after
    the add. changed: the share of those about which it changes its mind: it disables them, and then enables or aborts
    them. wait: wait for each job, and record its events and its result. seconds: timeout of that wait.
    """

    name: str
    seed: int = 0
    jobs: int = 100
    callers: int = 10
    rate: float | None = None
    kinds: dict[str, float] = msgspec.field(
        default_factory=lambda: {"quick": 6, "sleeping": 2, "threaded": 1, "flaky": 1}
    )
    many: int = 0
    keys: int = 0
    delayed: float = 0.0
    longest_delay: float = 2.0
    aborted: float = 0.0
    changed: float = 0.0
    wait: bool = False
    seconds: float = 120.0
    patience: float = 10.0


def make(kind: str, token: str, draw: random.Random) -> Job[str]:
    """Make a job of a kind, with random arguments."""
    match kind:
        case "sleeping" | "threaded":
            return getattr(load_jobs, kind)(token=token, seconds=round(draw.choice([0.005, 0.02, 0.2]), 3))
        case "flaky":
            return load_jobs.flaky(token=token, failures=draw.choice([1, 2]))
        case _:
            return getattr(load_jobs, kind)(token=token)


def answer_of(failure: JobQueueError) -> Answer:
    """Return what is known about an add that failed with this error."""
    unsure = isinstance(failure, (StorageUnavailableError, ClosedError))
    return "unknown" if unsure and not NOT_ADDED.match(str(failure)) else "refused"


class Caller:
    """The state that all callers of this process share."""

    def __init__(self, client: JobQueueClient, plan: Plan, journal: Journal) -> None:
        self.client = client
        self.plan = plan
        self.journal = journal
        self.draw = random.Random(f"{plan.name} {plan.seed}")
        self.numbers: Iterator[int] = iter(range(plan.jobs))
        self.tasks: list[asyncio.Task[None]] = []
        self.pid = os.getpid()
        for event, state in EVENTS.items():
            client.on(event, lambda it, state=state: self.record_event(it.job_id, state))

    def record_event(self, job: Any, state: JobState) -> None:
        self.journal.write(Heard(listener=self.plan.name, job=job, state=state, at=now()))

    async def call(self) -> None:
        """Add jobs until the plan is fulfilled."""
        plan, draw = self.plan, self.draw
        for number in self.numbers:
            token = f"{plan.name}-{number}"
            if plan.many and draw.randrange(plan.many) == 0:
                await self.add([f"{token}-{part}" for part in range(20)], together=True)
            else:
                await self.add([token], together=False)
            if plan.rate is not None:
                await asyncio.sleep(draw.expovariate(plan.rate / plan.callers))

    async def add(self, tokens: list[str], *, together: bool) -> None:
        plan, draw, journal = self.plan, self.draw, self.journal
        kinds = draw.choices(list(plan.kinds), list(plan.kinds.values()), k=len(tokens))
        jobs = [make(kind, token, draw) for kind, token in zip(kinds, tokens, strict=True)]
        options: dict[str, Any] = {}
        if draw.random() < plan.delayed:
            options["delay"] = draw.random() * plan.longest_delay
        key = f"key {draw.randrange(plan.keys)}" if plan.keys and not together and draw.random() < 0.2 else None
        if key is not None:
            options["unique"] = key
        for token, kind in zip(tokens, kinds, strict=True):
            ends = ENDS.get(kind, JobState.COMPLETED)
            due = "delay" not in options
            journal.write(Asked(token=token, at=now(), ends=ends, unique_key=key, pid=self.pid, due=due))
        handles: list[JobHandle[str]] = []
        answer: Answer = "acknowledged"
        error = ""
        try:
            if together:
                handles = await self.client.add_many(jobs, **options)
            else:
                handles = [await self.client.add(jobs[0], **options)]
        except (StorageError, ClosedError) as failure:
            answer, error = answer_of(failure), repr(failure)[:500]
        at = now()
        for place, token in enumerate(tokens):
            handle = handles[place] if handles else None
            journal.write(
                Answered(
                    token=token,
                    answer=answer,
                    at=at,
                    job=handle.id if handle else None,
                    created=handle.created if handle else True,
                    error=error,
                )
            )
            if handle and handle.created and plan.wait:
                journal.write(Listening(listener=plan.name, job=handle.id, pid=self.pid, at=now()))
                self.tasks.append(asyncio.create_task(self.wait(token, handle)))
            if handle and handle.created and draw.random() < plan.aborted:
                self.tasks.append(asyncio.create_task(self.abort(handle)))
            elif handle and handle.created and draw.random() < plan.changed:
                self.tasks.append(asyncio.create_task(self.change(handle)))

    async def wait(self, token: str, handle: JobHandle[str]) -> None:
        """Wait for a job's end, through all outages of the storage."""
        try:
            while True:
                try:
                    result = await self.client.wait_for(handle, timeout=self.plan.seconds)
                    break
                except JobDisabledError:
                    await asyncio.sleep(0.05)  # it is enabled or aborted soon
        except WaitTimeoutError:
            raise
        except (JobError, ConnectionError):
            return  # the job failed; its event is recorded
        self.journal.write(Told(token=token, job=handle.id, result=result, at=now()))

    async def abort(self, handle: JobHandle[str]) -> None:
        """Abort a job a little later; repeat that until there is an answer or this client's `patience` ends."""
        await asyncio.sleep(SOON * self.draw.random() ** 3)
        self.journal.write(Aborting(job=handle.id, at=now()))
        until = now() + self.plan.patience
        while now() < until:
            try:
                # The client returns only whether anything changed.
                (change,) = await self.client.storage.abort([handle.id])
            except StorageUnavailableError:
                await asyncio.sleep(0.1)
                continue
            if change.after is not None:
                self.journal.write(AbortAnswered(job=handle.id, state=change.after, at=now()))
            return

    async def change(self, handle: JobHandle[str]) -> None:
        """Change one's mind about a job: ask for one thing and then for another, each until there is an answer."""
        await asyncio.sleep(SOON * self.draw.random() ** 3)
        for what in self.draw.choice([("disable", "enable"), ("disable", "enable"), ("disable", "abort")]):
            self.journal.write(Requesting(job=handle.id, what=what, at=now()))
            changed: bool | None = None
            failed = False
            while changed is None:
                try:
                    (change,) = await getattr(self.client.storage, what)([handle.id])
                    changed = change.changed
                except StorageUnavailableError:
                    failed = True
                    await asyncio.sleep(0.1)
            if not failed:  # otherwise an earlier call may have taken effect
                self.journal.write(RequestAnswered(job=handle.id, changed=changed, at=now()))


async def main(url: str, plan: Plan) -> None:
    journal = Journal(os.environ[load_jobs.VARIABLE])
    async with JobQueueClient(url, patience=plan.patience, poll=0.2) as client:
        caller = Caller(client, plan, journal)
        print("started", flush=True)
        await asyncio.gather(*(caller.call() for _ in range(plan.callers)))
        print("added", flush=True)
        await asyncio.gather(*caller.tasks)
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], msgspec.json.decode(sys.argv[2], type=Plan)))
