"""`add_many`: many jobs, made with little work for each and sent in few round trips."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from jobq_client.backoff import OUTAGE, pause
from jobq_client.errors import unavailable
from jobq_client.group_commit import LEAST_SECONDS, SLOW_SECONDS, Send
from jobq_core.adding import AddOptions, new_job, new_job_like
from jobq_core.clock_offset import Reading
from jobq_core.errors import ConfigurationError, InvalidJobError, StorageReadOnlyError, StorageUnavailableError
from jobq_core.ids import new_ids
from jobq_core.job import Job
from jobq_core.retry import Backoff
from jobq_core.storage import Added, NewJob

MAX_JOBS: Final = 10_000
"""Maximum number of jobs in one round trip."""
MAX_BYTES: Final = 32 * 1024 * 1024
"""Maximum size of the arguments and headers in one round trip, in bytes."""
JOBS_PER_SECOND: Final = 2000
"""How many jobs a second a slow storage may add before a round trip counts as unanswered."""
TURN: Final = 500
"""Number of jobs made, in some milliseconds, before other tasks get their turn."""


async def make_jobs(jobs: Sequence[Job[Any]], queue: str, options: AddOptions, clock: Reading) -> list[NewJob]:
    """Make all jobs or none. A note on the error says which one was refused."""
    # The options are the same for all jobs, and are checked once per kind.
    patterns: dict[type[Job[Any]], NewJob] = {}
    made: list[NewJob] = []
    for index, (job_id, job) in enumerate(zip(new_ids(len(jobs), *clock), jobs, strict=True)):
        try:
            pattern = patterns.get(type(job))
            if pattern is None:
                new = patterns[type(job)] = new_job(job_id, job, queue, options)
            else:
                new = new_job_like(pattern, job_id, job)
        except (InvalidJobError, ConfigurationError) as error:
            error.add_note(f"job {index} of the {len(jobs)} given to add_many; none was added")
            raise
        made.append(new)
        if index % TURN == TURN - 1:
            await asyncio.sleep(0)
    return made


async def make_each(
    jobs: Sequence[Job[Any]], queue: str, options: Sequence[AddOptions], clock: Reading
) -> list[NewJob]:
    """Make all jobs or none, each with its own options. A note on the error says which one was refused."""
    made: list[NewJob] = []
    for index, (job_id, job) in enumerate(zip(new_ids(len(jobs), *clock), jobs, strict=True)):
        try:
            made.append(new_job(job_id, job, queue, options[index]))
        except (InvalidJobError, ConfigurationError) as error:
            error.add_note(f"job {index} of the {len(jobs)} given to add_many; none was added")
            raise
        if index % TURN == TURN - 1:
            await asyncio.sleep(0)
    return made


def in_batches(jobs: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    """Split jobs into batches of one round trip each; nearly always it is one."""
    start = size = 0
    for index, job in enumerate(jobs):
        own = len(job.arguments) if job.meta is None else len(job.arguments) + len(job.meta)
        size += own
        if index > start and (index - start >= MAX_JOBS or size > MAX_BYTES):
            yield jobs[start:index]
            start, size = index, own
    if jobs:
        yield jobs[start:]


async def send_all(jobs: Sequence[NewJob], send: Callable[[Sequence[NewJob]], Awaitable[list[Added]]]) -> list[Added]:
    """Send one batch after another. A note on the error says how many jobs were added before it."""
    added: list[Added] = []
    for batch in in_batches(jobs):
        try:
            added += await send(batch)
        except Exception as error:
            if added:
                error.add_note(f"the first {len(added)} of {len(jobs)} jobs were added")
            raise
    return added


async def persist(
    send: Send,
    jobs: Sequence[NewJob],
    *,
    patience: float,
    closing: asyncio.Event,
    backoff: Backoff = OUTAGE,
    now: Callable[[], float] = time.monotonic,
) -> list[Added]:
    """Send a batch, and retry for `patience` seconds during an outage, which the jobs' ids make safe.

    A batch that fails after SLOW_SECONDS is sent in halves.
    """
    until = now() + patience
    failures = 0
    while True:
        began = now()
        limit = max(until - began, LEAST_SECONDS) + len(jobs) / JOBS_PER_SECOND
        try:
            async with asyncio.timeout(limit):
                return await send(jobs)
        except TimeoutError:
            raise StorageUnavailableError(
                f"{len(jobs)} jobs may or may not have been added: the storage did not answer within {limit:.3g} s"
            ) from None
        except StorageReadOnlyError:
            raise
        except StorageUnavailableError as error:
            failures += 1
            if now() >= until or await pause(closing, backoff.delay(failures)):
                raise unavailable(error, f"{len(jobs)} jobs may or may not have been added") from error
            if len(jobs) > 1 and now() - began >= SLOW_SECONDS:
                # It was perhaps too much for the time limit of the storage.
                again = partial(persist, send, patience=until - now(), closing=closing, backoff=backoff, now=now)
                half = len(jobs) // 2
                return [*await again(jobs[:half]), *await again(jobs[half:])]
