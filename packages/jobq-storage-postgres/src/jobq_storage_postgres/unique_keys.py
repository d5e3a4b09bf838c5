"""Adding jobs that have unique keys: the keys are taken first, in statements of the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from jobq_core.errors import StorageUnavailableError, UniqueKeyBusyError
from jobq_core.reprs import short_repr
from jobq_core.storage import Added, NewJob
from jobq_storage_postgres.binary import texts, uuids
from jobq_storage_postgres.columns import pack_jobs, pack_ready
from jobq_storage_postgres.programs import Last, Program
from jobq_storage_postgres.protocol import Step
from jobq_storage_postgres.sql import Statements
from jobq_storage_postgres.transaction import StartOverError

RESTARTS: Final = 20
"""How often an add starts over; then it takes keys in any order, and the server resolves deadlocks."""
_ROUNDS: Final = 100
"""How often an add asks for keys whose holders end in the meantime."""


def add_unique(statements: Statements, jobs: Sequence[NewJob], *, may_start_over: bool = False) -> Program[list[Added]]:
    """Add jobs some of which have unique keys; a program for one transaction.

    Raises UniqueKeyBusyError if an open transaction holds a key, and with `may_start_over` StartOverError.
    """
    answered: dict[int, Added] = {}
    took: set[UUID] = set()
    left = [(index, job) for index, job in enumerate(jobs) if job.unique_key is not None]
    for _ in range(_ROUNDS):
        if not left:
            return (yield from _add_rest(statements, jobs, answered, took))
        # The holder of a key may have committed after this statement began; the next statement sees it.
        (rows,) = yield [_claim(statements, left)]
        busy = next((row for row in rows if row[2] is None), None)
        if busy is not None:
            if busy[0] is None:
                continue  # the key became free while its holder was looked for
            if took:
                yield [(statements["release_keys"], (uuids([job_id.bytes for job_id in took]),))]
            queue, key, _, _, *session = busy
            raise key_is_busy(queue, key, *session, advice="add the job again later")
        left = _answer(left, rows, answered, took)
        if left and took and may_start_over:
            # A transaction that holds keys and asks for earlier ones may deadlock with another one.
            raise StartOverError
    raise StorageUnavailableError("unique keys changed hands too often to add the jobs")


def _claim(statements: Statements, left: Sequence[tuple[int, NewJob]]) -> Step:
    """Return the statement that takes the keys of jobs."""
    firsts: dict[tuple[str, str], NewJob] = {}
    for _, job in left:
        firsts.setdefault((job.queue, job.unique_key or ""), job)
    ordered = sorted(firsts.items(), key=lambda each: (each[0][0].encode(), each[0][1].encode()))
    return (
        statements["claim_keys"],
        (
            texts([queue for (queue, _), _ in ordered]),
            texts([key for (_, key), _ in ordered]),
            uuids([job.id.bytes for _, job in ordered]),
            uuids([job.id.bytes for _, job in left]),
        ),
    )


def _answer(
    left: Sequence[tuple[int, NewJob]], rows: Sequence[Any], answered: dict[int, Added], took: set[UUID]
) -> list[tuple[int, NewJob]]:
    """Note the jobs whose keys have a holder, and return the others. took: updated with those that hold their keys."""
    holders = {(queue, key): (holder, taken) for queue, key, holder, taken, *_ in rows if queue is not None}
    stored = {job_id for queue, _, job_id, *_ in rows if queue is None}
    unknown: list[tuple[int, NewJob]] = []
    for index, job in left:
        holder, taken = holders.get((job.queue, job.unique_key), (None, False))
        if job.id in stored:
            answered[index] = Added(job.id, False)
        elif holder is None:
            unknown.append((index, job))
        elif taken and holder == job.id and holder not in took:
            took.add(job.id)
        else:
            answered[index] = Added(holder, False)
    return unknown


def key_is_busy(
    queue: str, key: str, holder: int | None, application: str | None, seconds: float | None, *, advice: str
) -> UniqueKeyBusyError:
    """Return the error for a unique key that an open transaction holds, from what `jobq.busy_key` knows of it."""
    who = "an open transaction"
    known = [
        f"process {holder}" if holder else "",
        f"application {short_repr(application)}" if application else "",
        f"open for {seconds:.0f} s" if seconds is not None else "",
    ]
    if any(known):
        who += f" of another session ({', '.join(filter(None, known))})"
    return UniqueKeyBusyError(
        f"{who} holds the unique key {short_repr(key)} of queue {short_repr(queue)}; {advice}", queue=queue, key=key
    )


def _add_rest(
    statements: Statements, jobs: Sequence[NewJob], answered: dict[int, Added], took: set[UUID]
) -> Program[list[Added]]:
    """Add the jobs that are not answered yet, and give back keys that turn out not to be needed."""
    going = [(index, job) for index, job in enumerate(jobs) if index not in answered]
    steps: list[Step] = []
    if going:
        steps.append(add_step(statements, [job for _, job in going]))
    if took:
        steps.append((statements["drop_keys"], (uuids(sorted(job_id.bytes for job_id in took)),)))
    results = yield Last(steps)
    if going:
        added = answers([job for _, job in going], results[0][0])
        answered.update((index, answer) for (index, _), answer in zip(going, added, strict=True))
    return [answered[index] for index in range(len(jobs))]


def add_step(statements: Statements, jobs: Sequence[NewJob]) -> Step:
    """Return the statement that adds jobs, whose row `answers` takes."""
    for job in jobs:
        if job.run_at is not None or job.tags or job.gated or job.followed or job.follow_up:
            return statements["add"], pack_jobs(jobs)
    return statements["add_ready"], pack_ready(jobs)


def answers(jobs: Sequence[NewJob], row: tuple[list[UUID] | None, int]) -> list[Added]:
    """Return the answer to each job from the row of `add`: which jobs were new (None: all), and how many."""
    new, count = row
    if count == len(jobs):
        return [Added(job.id, True) for job in jobs]
    left = set(new or ())
    answer: list[Added] = []
    for job in jobs:
        answer.append(Added(job.id, job.id in left))
        left.discard(job.id)  # an id that is repeated in this batch is stored once
    return answer
