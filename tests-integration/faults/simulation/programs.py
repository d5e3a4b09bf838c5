"""The programs of simulated processes: workers and clients, whose handlers and callers write the journal."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from jobq_client import JobHandle, JobQueueClient
from jobq_core import (
    AbortSignalJobError,
    Backoff,
    ClosedError,
    ConcurrencyLimiter,
    JobContext,
    JobDisabledError,
    JobError,
    JobNotFoundError,
    JobStateError,
    RateLimiter,
    RetryPolicy,
    StorageUnavailableError,
    WaitTimeoutError,
    job,
)
from jobq_core.limiters import Limiter
from jobq_core.storage import QueueStorage
from jobq_worker import JobQueueWorker

from .journal import STATES, Journal
from .process import Limits, Process, ProcessLoop
from .scenario import JobPlan, Scenario, WorkerPlan


class Stage:
    """State shared by the programs of one schedule."""

    def __init__(self, scenario: Scenario, journal: Journal) -> None:
        self.scenario = scenario
        self.journal = journal
        self.served: set[str] = set()
        """The clients whose callers have learned how all their jobs ended."""


def result_of(token: int) -> str:
    """Return the expected result of a token's job."""
    return f"result {token}"


@job(queue="failures", priority=-100)
async def follow(job_id: UUID) -> None:
    """Follow a failure; no worker serves its queue."""


@job(queue="simulated", on_failure=follow, retry=RetryPolicy(backoff=Backoff(base=0.2, maximum=1.0)))
async def simulated(context: JobContext, token: int) -> str:
    """Pause and end as the token's plan says."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ProcessLoop)
    process = loop.process
    plan = process.stage.scenario.jobs[token]
    journal: Journal = process.stage.journal
    run = journal.begin(process, context, token)
    try:
        for number in range(plan.pieces):
            await asyncio.sleep(plan.piece)
            journal.go_on(run)
            run.percent = 100 * (number + 1) / plan.pieces
            context.progress(run.percent)
        if context.attempt <= plan.failures:
            raise ValueError(f"token {token} fails in attempt {context.attempt}")
    except asyncio.CancelledError:
        journal.tell(run)
        await asyncio.sleep(plan.stubborn)
        raise
    except ValueError:
        journal.end(run, "failed")
        raise
    journal.end(run, "completed")
    return result_of(token)


class Quit(asyncio.Event):
    """Set to make a program end."""


async def work(process: Process, stage: Stage, storage: QueueStorage, plan: WorkerPlan, ending: Quit) -> None:
    """Run a worker until `ending` is set; stop and start it as planned."""
    scenario = stage.scenario
    limiter, process.limits = _limits(process, plan)
    worker = JobQueueWorker(
        storage,
        jobs=[simulated],
        concurrency=plan.concurrency,
        limiter=limiter,
        name=process.name,
        heartbeat_interval=scenario.beat,
        lost_after=scenario.lost_after,
        poll_interval=scenario.poll,
    )
    for kind in STATES:
        # At most one of all workers announces an end.
        worker.on(kind, lambda event: stage.journal.notified("workers", event))
    loop = asyncio.get_running_loop()
    began = loop.time()
    for at, timeout in (*plan.stops, (None, 5.0)):
        await _start(worker, ending)
        try:
            async with asyncio.timeout_at(None if at is None else began + at):
                await ending.wait()
        except TimeoutError:
            pass
        process.world.note(process.name, f"stops with a timeout of {timeout} s")
        await worker.stop(timeout)
        if ending.is_set():
            return


async def _start(worker: JobQueueWorker, ending: Quit) -> None:
    while not ending.is_set():
        try:
            await worker.start()
            return
        except StorageUnavailableError:
            await asyncio.sleep(0.3)


def _limits(process: Process, plan: WorkerPlan) -> tuple[Limiter | None, Limits]:
    if plan.limiter == "concurrency":
        most = max(plan.concurrency - 1, 1)
        return ConcurrencyLimiter(most), Limits(most)
    if plan.limiter == "rate":
        rate = (2, 0.5)
        return RateLimiter(*rate, clock=lambda: process.world.now), Limits(plan.concurrency, rate)
    return None, Limits(plan.concurrency)


async def call(process: Process, stage: Stage, storage: QueueStorage, number: int, ending: Quit) -> None:
    """Add the jobs planned for this client, wait for their ends, then wait until `ending` is set."""
    scenario = stage.scenario
    client = JobQueueClient(storage, patience=scenario.patience, poll=scenario.poll)
    for kind in STATES:
        client.on(kind, lambda event: stage.journal.notified(process.name, event))
    while True:
        try:
            await client.start()
            break
        except StorageUnavailableError:
            await asyncio.sleep(0.3)
    callers = [
        asyncio.create_task(_call(process, stage, client, plan), name=f"{process.name} caller {plan.token}")
        for plan in scenario.jobs
        if plan.client == number
    ]
    for caller in callers:
        await caller
    stage.served.add(process.name)
    await ending.wait()
    await client.stop()


async def _call(process: Process, stage: Stage, client: JobQueueClient, plan: JobPlan) -> None:
    await asyncio.sleep(plan.at)
    add = stage.journal.adding(plan.token, plan.options.get("unique"))
    try:
        handle = await client.add(simulated(token=plan.token), **plan.options)
    except StorageUnavailableError as error:
        add.answer = "refused" if "was not added" in str(error) else "unknown"
        add.answered = process.world.now
        process.world.note(process.name, f"adds {plan.token}: {add.answer}")
        return
    add.answer, add.answered = "acknowledged", process.world.now
    add.job, add.created = handle.id, handle.created
    process.world.note(process.name, f"adds {plan.token}: {handle.id}, created: {handle.created}")
    controls = asyncio.create_task(_control(client, handle, plan), name=f"{process.name} controls {plan.token}")
    await _wait(process, stage, client, handle.id)
    await controls


async def _wait(process: Process, stage: Stage, client: JobQueueClient, job: UUID) -> None:
    outcome: Any
    while True:
        try:
            outcome = await client.wait_for(job, timeout=5.0)
        except WaitTimeoutError:
            continue
        except JobDisabledError:
            await asyncio.sleep(0.5)  # the operator enables it later
            continue
        except (AbortSignalJobError, JobNotFoundError) as error:
            outcome = type(error)
        except (JobError, ValueError) as error:
            outcome = error
        break
    stage.journal.results.append((process.name, job, outcome))


async def _control(client: JobQueueClient, handle: JobHandle[str], plan: JobPlan) -> None:
    for pause, what in plan.controls:
        await asyncio.sleep(pause)
        await _insist(client, what, handle.id)


async def _insist(client: JobQueueClient, what: str, job: UUID) -> None:
    """Repeat a control operation until the storage answers."""
    while True:
        try:
            await getattr(client, what)(job)
            return
        except StorageUnavailableError:
            await asyncio.sleep(0.3)
        except (JobNotFoundError, JobStateError):
            return
        except ClosedError:
            return
