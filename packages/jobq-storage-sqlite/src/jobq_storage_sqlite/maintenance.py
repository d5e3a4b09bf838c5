"""The facet of the keeper: the maintenance, which one worker does for all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import starmap
from uuid import UUID

import msgspec

from jobq_core.records import deadline_passed
from jobq_core.states import JobState
from jobq_core.storage import (
    EndedJob,
    Expired,
    FailedJob,
    Follow,
    KeeperStorage,
    Leadership,
    Promotion,
    Rescue,
)
from jobq_core.timestamps import SECOND, to_datetime
from jobq_storage_sqlite.adding import add
from jobq_storage_sqlite.columns import to_id
from jobq_storage_sqlite.endings import EndingJob, end, put_in_line
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.pruning import prune
from jobq_storage_sqlite.rescuing import rescue
from jobq_storage_sqlite.runs import GATED
from jobq_storage_sqlite.settling import insert_attempt
from jobq_storage_sqlite.transaction import Transaction


class Maintenance(StorageOnFile, KeeperStorage):
    """Maintains through the writer."""

    async def lead(self, worker: UUID, term: float) -> Leadership:
        return await self._write(partial(lead, worker=worker, term=term))

    async def resign(self, worker: UUID) -> None:
        await self._write(partial(resign, worker=worker))

    async def promote(self, limit: int = 1000) -> Promotion:
        return await self._write(partial(promote, limit=limit))

    async def expire(self, limit: int = 1000) -> Expired:
        return await self._write(partial(expire, limit=limit))

    async def admit(self, ids: Sequence[UUID]) -> int:
        return await self._write(partial(admit, ids=ids)) if ids else 0

    async def resolve(self, limit: int = 1000, follow: Follow | None = None) -> list[EndedJob]:
        return await self._write(partial(resolve, limit=limit, follow=follow))

    async def rescue(self) -> Rescue:
        return await rescue(self)

    async def prune(self, limit: int = 10_000) -> int:
        return await prune(self, limit)


def lead(transaction: Transaction, worker: UUID, term: float) -> Leadership:
    """Take or renew the lease on the maintenance."""
    transaction.run("lead", worker.bytes, transaction.uptime, round(term * SECOND))
    leader, ends = transaction.one("leader")
    return Leadership(leader == worker.bytes, (ends - transaction.uptime) / SECOND)


def resign(transaction: Transaction, worker: UUID) -> None:
    """Give up the lease on the maintenance."""
    transaction.run("resign", worker.bytes)


def promote(transaction: Transaction, limit: int) -> Promotion:
    """Make due jobs PENDING."""
    rows = transaction.all("find_due", transaction.now, max(limit, 0))
    put_in_line(transaction, rows)
    (next_at,) = transaction.one("find_next_due")
    return Promotion(len(rows), _until(transaction, next_at))


def expire(transaction: Transaction, limit: int) -> Expired:
    """Fail jobs whose deadline passed before they started."""
    rows = transaction.all("find_expired", transaction.now, max(limit, 0))
    now, error = transaction.now, deadline_passed()
    for job in starmap(EndingJob, rows):
        lease = transaction.numbers(1)
        insert_attempt(transaction, job.n, lease, 0, None, now, error)
        transaction.run("end", JobState.FAILED.value, None, now, lease, job.n)
        end(transaction, job, JobState.FAILED, error=error)
    row = transaction.one("find_next_deadline")
    return Expired(len(rows), _until(transaction, None if row is None else row[0]))


def admit(transaction: Transaction, ids: Sequence[UUID]) -> int:
    """Make gated jobs PENDING."""
    rows = [row for job_id in ids if (row := transaction.one("find_gated", job_id.bytes)) is not None]
    put_in_line(transaction, [(n, queue, flags & ~GATED) for n, queue, flags in rows])
    return len(rows)


def resolve(transaction: Transaction, limit: int, follow: Follow | None) -> list[EndedJob]:
    """Hand over the ends of followed jobs, and add what follows them."""
    rows = transaction.all("find_ended", max(limit, 0))
    if not rows:
        return []
    transaction.run("delete_ended", rows[-1][0])
    ended = [_to_ended(*row) for row in rows]
    jobs = () if follow is None else follow(ended)
    if jobs:
        add(transaction, jobs)
    return ended


def _to_ended(n: int, job_id: bytes, queue: str, state: str | None, at: int, failed: bytes | None) -> EndedJob:
    return EndedJob(
        to_id(job_id),
        queue,
        None if state is None else JobState(state),
        to_datetime(at),
        None if failed is None else msgspec.json.decode(failed, type=FailedJob),
    )


def _until(transaction: Transaction, moment: int | None) -> float | None:
    return None if moment is None else max(moment - transaction.now, 0) / SECOND
