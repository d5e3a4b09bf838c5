"""The programs that add jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from psycopg.errors import LockNotAvailable, UniqueViolation

from jobq_core.errors import StorageError
from jobq_core.storage import Added, NewJob
from jobq_storage_postgres.binary import pack_text
from jobq_storage_postgres.columns import pack_job
from jobq_storage_postgres.errors import caused_by
from jobq_storage_postgres.programs import Last, Program
from jobq_storage_postgres.sql import Statements
from jobq_storage_postgres.unique_keys import add_step, add_unique, answers


def add(statements: Statements, jobs: Sequence[NewJob]) -> Program[list[Added]]:
    """Add jobs, in one transaction if some have unique keys."""
    if has_unique(jobs):
        return (yield from add_unique(statements, jobs))
    ((row,),) = yield Last([add_step(statements, jobs)])
    return answers(jobs, row)


def add_alone(statements: Statements, jobs: Sequence[NewJob]) -> Program[list[Added]]:
    """Add jobs without unique keys in a transaction of their own, which is the quickest way for one job."""
    if not _is_plain(jobs):
        return (yield from add(statements, jobs))
    try:
        yield Last([(statements["add_one"], pack_job(jobs[0]))])
    except (StorageError, UniqueViolation) as error:
        if not caused_by(error, UniqueViolation):
            raise
        return (yield from add(statements, jobs))  # it is stored already
    return [Added(jobs[0].id, True)]


def add_with_free_key(statements: Statements, jobs: Sequence[NewJob]) -> Program[list[Added] | None]:
    """Add a lone job whose unique key is free, in a transaction of its own and one round trip.

    Returns None if nothing was added, since the key is not free or these jobs need more: `add_unique` answers then.
    """
    job = jobs[0]
    if job.unique_key is None or not _is_plain(jobs):
        return None
    try:
        (rows,) = yield Last([(statements["add_keyed"], [*pack_job(job), pack_text(job.unique_key)])])
    except (StorageError, UniqueViolation, LockNotAvailable) as error:
        if not caused_by(error, UniqueViolation, LockNotAvailable):
            raise
        return None
    return [Added(job.id, True)] if rows else None


def has_unique(jobs: Sequence[NewJob]) -> bool:
    """Return whether some job has a unique key."""
    return any(job.unique_key is not None for job in jobs)


def _is_plain(jobs: Sequence[NewJob]) -> bool:
    """Return whether this is one job for `add_one` or `add_keyed`."""
    first = jobs[0]
    if len(jobs) > 1 or first.run_at is not None or first.tags or first.gated or first.followed or first.follow_up:
        return False
    return first.deadline is None or isinstance(first.deadline, datetime)
