"""Depths: how many jobs wait and run, now, by the last sample and in the past."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from jobq_core.states import FINISHED, JobState
from jobq_core.storage import COUNTED, SAMPLE_SECONDS, SAMPLE_SHARE, Depth, DepthPoint, KeeperStorage, ReaderStorage
from jobq_core.storage.statistics import STEPS, check_step
from jobq_core.timestamps import SECOND, to_datetime, to_moment, to_optional_datetime
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.tally import MINUTE
from jobq_storage_sqlite.transaction import Transaction

Counted = tuple[str, str, int, int]
"""A queue, a state, the number of its jobs, and since when the oldest one is in it."""

ALL: Final = {"from": "", "to": b""}
"""The range of all queues: SQLite orders bytes behind all text."""

LAST: Final = 0
"""The step under which the last sample of all is stored."""


class Depths(StorageOnFile, ReaderStorage, KeeperStorage):
    """Counts through the reader, and stores samples through the writer."""

    async def depths(self, queue: str | None = None) -> list[Depth]:
        now = self._moment().now
        rows = await self._read("depths", **range_of(queue), limit=COUNTED + 1)
        if any(_are_many(state, jobs) for _, state, jobs, _ in rows):
            rows = await self._with_sample(queue, rows)
        return [
            Depth(
                queue=name,
                state=JobState(state),
                jobs=jobs,
                oldest=to_optional_datetime(oldest),
                at=to_datetime(at[0] if at else now),
            )
            for name, state, jobs, oldest, *at in rows
        ]

    async def _with_sample(self, queue: str | None, rows: Sequence[Any]) -> list[Any]:
        """Replace the rows of many jobs by those of the last sample, or count their jobs where it has none."""
        sampled = {(name, state): row for name, state, *row in await self._read("last_sample")}
        many = {(name, state) for name, state, jobs, _ in rows if _are_many(state, jobs)}
        if not many <= sampled.keys():
            return await self._read("depths", **range_of(queue), limit=-1)
        return [(*row[:2], *sampled[row[:2]]) if row[:2] in many else row for row in rows]

    async def depth_history(
        self,
        queue: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        step: int = 60,
        together: bool = False,
    ) -> list[DepthPoint]:
        first, end = starts(since, until, self._moment().now, check_step(step))
        rows = await self._read(
            "depth_history", queue=queue, step=step, since=first * step, until=end * step, together=together
        )
        return [
            DepthPoint(
                at=to_datetime(start * SECOND),
                queue=name,
                state=JobState(state),
                jobs=jobs,
                oldest_seconds=age / SECOND,
            )
            for start, name, state, jobs, age in rows
        ]

    async def jobs_ahead(self, id: UUID, *, limit: int = 100_000) -> int | None:
        rows = await self._read("jobs_ahead", id=id.bytes, limit=limit)
        return min(rows[0][0], limit) if rows else None

    async def overdue(self, seconds: float, *, limit: int = 1000) -> int:
        before = self._moment().now - round(seconds * SECOND)
        ((jobs,),) = await self._read("count_overdue", before=before, limit=limit)
        return int(jobs)

    async def sample_depths(self) -> float:
        due_in = _due_in(await self._read("find_sample"), self._moment().uptime)
        if due_in > 0:
            return due_in
        began = time.perf_counter()
        counted = await self._read("count_unfinished", **ALL, limit=-1)
        pause = max(SAMPLE_SECONDS, SAMPLE_SHARE * (time.perf_counter() - began))
        return await self._write(partial(store_sample, counted=counted, pause=round(pause * SECOND)))


def range_of(queue: str | None) -> dict[str, Any]:
    """Return the range of queues that is one of them, or all."""
    return ALL if queue is None else {"from": queue, "to": queue}


def starts(since: datetime | None, until: datetime | None, now: int, step: int) -> tuple[int, int]:
    """Return the first step that starts at `since` (default: an hour ago) or later, and the first one at `until`
    (default: after now) or later, counted from 1970."""
    first = now - 60 * MINUTE if since is None else to_moment(since, now)
    end = now + 1 if until is None else to_moment(until, now)
    # -(-x // y) rounds up.
    return -(-first // (step * SECOND)), -(-end // (step * SECOND))


def store_sample(transaction: Transaction, counted: Sequence[Counted], pause: int) -> float:
    """Store a sample as the last one, and as that of its steps, unless another process just did; return the seconds
    until the next one is due."""
    due_in = _due_in(transaction.all("find_sample"), transaction.uptime)
    if due_in > 0:
        return due_in
    now = transaction.now
    rows = [(queue, state, jobs, max(now - since, 0)) for queue, state, jobs, since in counted]
    transaction.run("store_sample", now, transaction.uptime, pause)
    for step in (LAST, *STEPS):
        start = now // SECOND // step * step if step else 0
        transaction.run("clear_depths", step, start)
        transaction.many("insert_depth", [(step, start, *row) for row in rows])
    return pause / SECOND


def _are_many(state: str, jobs: int) -> bool:
    return jobs > COUNTED and state not in FINISHED


def _due_in(rows: Sequence[Any], uptime: int) -> float:
    """Return the seconds until the next sample is due, by the row of the last one."""
    if not rows:
        return 0.0
    sampled, pause = rows[0]
    passed = uptime - sampled
    # After a reboot, the uptime is below that of the sample.
    return (pause - passed) / SECOND if passed >= 0 else 0.0
