"""Adding jobs: columns for one statement, and unique keys before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

from jobq_core.storage import WAITING_TOPIC, Added, NewJob, queue_topic
from jobq_storage_postgres.binary import (
    Params,
    byteas,
    float8s,
    int2s,
    jsons,
    moments,
    pack_float8,
    pack_int2,
    pack_moment,
    pack_text,
    text_array,
    texts,
    uuids,
)
from jobq_storage_postgres.database import StartOverError, Transaction
from jobq_storage_postgres.protocol import Statement, Step
from jobq_storage_postgres.sql import Statements

RESTARTS: Final = 20
"""How often an add starts over; after that it takes keys in whatever order, and the server finds the deadlocks."""


class Session(Protocol):
    """Where statements run one after another in one transaction."""

    async def fetch(self, statement: Statement, params: Params = ()) -> list[Any]:
        """Run one statement and return its rows as tuples."""
        ...

    async def fetch_last(self, steps: Sequence[Step]) -> list[list[Any]]:
        """Run the last statements, after which the transaction may be committed, and return the rows of each."""
        ...


def topics_of(jobs: Sequence[NewJob]) -> set[str]:
    """Return whom these jobs concern."""
    topics = {queue_topic(job.queue) for job in jobs}
    if any(job.run_at is not None for job in jobs):
        topics.add(WAITING_TOPIC)
    return topics


def pack_jobs(jobs: Sequence[NewJob]) -> list[bytes | None]:
    """Pack jobs as the parameters of `add`: columns, most of which are alike for all jobs or empty."""
    first = jobs[0]
    run_at, run_in = _times([job.run_at for job in jobs])
    deadline, deadline_in = _times([job.deadline for job in jobs])
    return [
        uuids([job.id.bytes for job in jobs]),
        jsons([job.arguments for job in jobs]),
        _varying([job.queue for job in jobs], texts),
        _varying([job.kind for job in jobs], texts),
        _varying([job.priority for job in jobs], int2s),
        _varying([job.max_attempts for job in jobs], int2s),
        run_at,
        run_in,
        deadline,
        deadline_in,
        float8s.sparse([job.timeout for job in jobs]),
        jsons.sparse([job.backoff for job in jobs]),
        texts.sparse([job.unique_key for job in jobs]),
        texts.sparse([job.run_id for job in jobs]),
        texts.sparse([text_array(job.tags) if job.tags else None for job in jobs]),
        byteas.sparse([job.fingerprint for job in jobs]),
        pack_text(first.queue),
        pack_text(first.kind),
        pack_int2(first.priority),
        pack_int2(first.max_attempts),
    ]


def is_plain(jobs: Sequence[NewJob]) -> bool:
    """Say whether this is one job for `add_one`."""
    return len(jobs) == 1 and jobs[0].run_at is None and jobs[0].unique_key is None


def pack_one(job: NewJob) -> list[bytes | None]:
    """Pack a job as the parameters of `add_one`."""
    deadline = job.deadline
    return [
        job.id.bytes,
        pack_text(job.queue),
        pack_text(job.kind),
        job.arguments,
        pack_int2(job.priority),
        pack_int2(job.max_attempts),
        None if job.timeout is None else pack_float8(job.timeout),
        job.backoff,
        None if job.run_id is None else pack_text(job.run_id),
        texts(job.tags) if job.tags else None,
        job.fingerprint,
        pack_moment(deadline) if isinstance(deadline, datetime) else None,
        None if deadline is None or isinstance(deadline, datetime) else pack_float8(deadline),
    ]


def _varying(values: list[Any], pack: Callable[[Sequence[object]], bytes]) -> bytes | None:
    return None if values.count(values[0]) == len(values) else pack(values)


def _times(values: list[Any]) -> tuple[bytes | None, bytes | None]:
    """Split moments from seconds."""
    if values.count(None) == len(values):
        return None, None
    return (
        moments.sparse([value if isinstance(value, datetime) else None for value in values]),
        float8s.sparse([None if isinstance(value, datetime) else value for value in values]),
    )


def answers(jobs: Sequence[NewJob], row: tuple[list[UUID] | None, int]) -> list[Added]:
    """Return the answer to each job from what `add` said: which were new (None: all), and how many."""
    new, count = row
    if count == len(jobs):
        return [Added(job.id, True) for job in jobs]
    left = set(new or ())
    answer: list[Added] = []
    for job in jobs:
        answer.append(Added(job.id, job.id in left))
        left.discard(job.id)  # the same id again in this batch is there already
    return answer


async def add_unique(session: Session, statements: Statements, jobs: Sequence[NewJob]) -> list[Added]:
    """Add jobs some of which have unique keys, within a transaction; one of our own may be told to start over."""
    answered: dict[int, Added] = {}
    took: set[UUID] = set()
    left = [(index, job) for index, job in enumerate(jobs) if job.unique_key is not None]
    while left:
        # Whoever holds a key may have committed after this statement began; the next one sees it.
        firsts: dict[tuple[str, str | None], NewJob] = {}
        for _, job in left:
            firsts.setdefault((job.queue, job.unique_key), job)
        rows = await session.fetch(
            statements["claim_keys"],
            (
                texts([queue for queue, _ in firsts]),
                texts([key for _, key in firsts]),
                uuids([job.id.bytes for job in firsts.values()]),
                uuids([job.id.bytes for _, job in left]),
            ),
        )
        holders = {(queue, key): (holder, taken) for queue, key, holder, taken in rows if queue is not None}
        there = {job_id for queue, _, job_id, _ in rows if queue is None}
        unknown = []
        for index, job in left:
            holder, taken = holders.get((job.queue, job.unique_key), (None, False))
            if job.id in there:
                answered[index] = Added(job.id, False)
            elif holder is None:
                unknown.append((index, job))
            elif taken and holder == job.id and holder not in took:
                took.add(job.id)
            else:
                answered[index] = Added(holder, False)
        if unknown and took and isinstance(session, Transaction) and session.restarts < RESTARTS:
            # Who holds keys and then asks for earlier ones may wait for somebody who waits for him.
            raise StartOverError
        left = unknown
    going = [(index, job) for index, job in enumerate(jobs) if index not in answered]
    steps: list[Step] = []
    if going:
        steps.append((statements["add"], pack_jobs([job for _, job in going])))
    if took:
        steps.append((statements["drop_keys"], (uuids(sorted(job_id.bytes for job_id in took)),)))
    results = await session.fetch_last(steps)
    if going:
        added = answers([job for _, job in going], results[0][0])
        answered.update((index, answer) for (index, _), answer in zip(going, added, strict=True))
    return [answered[index] for index in range(len(jobs))]
