"""Adding jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobq_core.storage import WAITING_TOPIC, Added, NewJob, queue_topic
from jobq_core.timestamps import to_moment
from jobq_storage_sqlite.columns import PENDING, SCHEDULED, from_tags, to_id
from jobq_storage_sqlite.transaction import Transaction


def add(transaction: Transaction, jobs: Sequence[NewJob]) -> list[Added]:
    """Store jobs; see `QueueStorage.add`."""
    first = transaction.numbers(len(jobs))
    now = transaction.now
    asked = [_asked(n, job, now) for n, job in enumerate(jobs, first)]
    lives = [_life(n, job, now) for n, job in enumerate(jobs, first)]
    if any(job.unique_key is not None for job in jobs):
        return [_add_one(transaction, *row) for row in zip(jobs, asked, lives, strict=True)]
    stored = transaction.many("add_job", asked)
    if stored == len(jobs):
        transaction.many("add_life", lives)
        _ring(transaction, lives)
        return [Added(job.id, True) for job in jobs]
    new = {n for (n,) in transaction.all("added", first)}
    lives = [life for life in lives if life[0] in new]
    transaction.many("add_life", lives)
    _ring(transaction, lives)
    return [Added(job.id, n in new) for n, job in enumerate(jobs, first)]


def _add_one(transaction: Transaction, job: NewJob, asked: tuple[Any, ...], life: tuple[Any, ...]) -> Added:
    if transaction.one("number_of", job.id.bytes) is not None:
        return Added(job.id, False)
    if job.unique_key is not None:
        holder = transaction.one("holder", job.queue, job.unique_key)
        if holder is not None:
            return Added(to_id(holder[0]), False)
    transaction.run("add_job", *asked)
    transaction.run("add_life", *life)
    _ring(transaction, [life])
    return Added(job.id, True)


def _asked(n: int, job: NewJob, now: int) -> tuple[Any, ...]:
    return (
        n,
        job.id.bytes,
        job.kind,
        job.arguments,
        now,
        to_moment(job.deadline, now),
        job.timeout,
        job.max_attempts,
        job.backoff,
        job.run_id,
        from_tags(job.tags),
        job.fingerprint,
    )


def _life(n: int, job: NewJob, now: int) -> tuple[Any, ...]:
    run_at = to_moment(job.run_at, now)
    if run_at is not None and run_at > now:
        return (n, job.queue, -job.priority, n, SCHEDULED, run_at, "delayed", job.unique_key)
    return (n, job.queue, -job.priority, n, PENDING, run_at, None, job.unique_key)


def _ring(transaction: Transaction, lives: list[tuple[Any, ...]]) -> None:
    for queue, state in {(life[1], life[4]) for life in lives}:
        transaction.topics.add(queue_topic(queue) if state == PENDING else WAITING_TOPIC)
