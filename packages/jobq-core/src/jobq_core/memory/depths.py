"""How many jobs wait and run: now, by the last sample, and in the past."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from itertools import chain
from uuid import UUID

from jobq_core.memory.depth_samples import Counted, Key, add_queues
from jobq_core.memory.rows import Queue, Row
from jobq_core.memory.store import Store
from jobq_core.memory.tally import MINUTE
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.states import FINISHED, JobState
from jobq_core.storage import COUNTED, SAMPLE_SECONDS, SAMPLE_SHARE, Depth, DepthPoint, KeeperStorage, ReaderStorage
from jobq_core.storage.statistics import check_step
from jobq_core.timestamps import SECOND, to_datetime, to_moment, to_optional_datetime


class Depths(MemoryTransactions, ReaderStorage, KeeperStorage):
    """The operations on depths."""

    async def depths(self, queue: str | None = None) -> list[Depth]:
        with self._transaction() as store:
            now, samples = store.clock.now(), store.depths
            depths: list[Depth] = []
            for (name, state), rows in sorted(_jobs_by_state(store, queue).items()):
                sampled = None if len(rows) <= COUNTED or state in FINISHED else samples.last.get((name, state))
                at = now if sampled is None or samples.at is None else samples.at
                counted = _count(state, rows) if sampled is None else sampled
                if counted.jobs:
                    oldest = to_optional_datetime(counted.oldest)
                    depths.append(Depth(queue=name, state=state, jobs=counted.jobs, oldest=oldest, at=to_datetime(at)))
            return depths

    async def depth_history(
        self,
        queue: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        step: int = 60,
        together: bool = False,
    ) -> list[DepthPoint]:
        check_step(step)
        with self._transaction() as store:
            now = store.clock.now()
            first = now - 60 * MINUTE if since is None else to_moment(since, now)
            end = now + 1 if until is None else to_moment(until, now)
            points = store.depths.points(queue, first, end, step)
            return add_queues(points) if together else points

    async def jobs_ahead(self, id: UUID, *, limit: int = 100_000) -> int | None:
        with self._transaction() as store:
            row = store.jobs.get(id)
            if row is None or row.state is not JobState.PENDING:
                return None
            ahead = 0
            for bucket in (row.queue.returned, *row.queue.lines.values()):
                if bucket is row.bucket:
                    return min(ahead + list(bucket).index(row.token), limit)
                ahead += len(bucket)
            raise AssertionError("a PENDING job is in a line of its queue")

    async def overdue(self, seconds: float, *, limit: int = 1000) -> int:
        with self._transaction() as store:
            before = store.clock.now() - round(seconds * SECOND)
            scheduled = _in_any_queue(store, JobState.SCHEDULED)
            return min(sum(row.run_at is not None and row.run_at < before for row in scheduled), limit)

    async def sample_depths(self) -> float:
        with self._transaction() as store:
            steady, samples = store.clock.steady(), store.depths
            if steady < samples.due_at:
                return (samples.due_at - steady) / SECOND
            counted = {
                (name, state): _count(state, rows)
                for (name, state), rows in _jobs_by_state(store).items()
                if rows and state not in FINISHED
            }
            samples.add(counted, store.clock.now())
            pause = max(SAMPLE_SECONDS, SAMPLE_SHARE * (store.clock.steady() - steady) / SECOND)
            samples.due_at = steady + round(pause * SECOND)
            return pause


class _Rows:
    """The jobs of several collections."""

    def __init__(self, *parts: Collection[Row]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[Row]:
        return chain(*self._parts)


def _jobs_by_state(store: Store, queue: str | None = None) -> dict[Key, _Rows]:
    """Return the jobs of one queue, or of all, by queue and state."""
    wanted = store.queues.values() if queue is None else [store.queues[queue]] if queue in store.queues else []
    running: dict[str, list[Row]] = {}
    for row in store.running.values():
        running.setdefault(row.queue.name, []).append(row)
    return {(each.name, state): _in_state(each, state, running) for each in wanted for state in JobState}


def _in_any_queue(store: Store, state: JobState) -> Iterator[Row]:
    return chain.from_iterable(queue.buckets[state].values() for queue in store.queues.values())


def _in_state(queue: Queue, state: JobState, running: Mapping[str, list[Row]]) -> _Rows:
    if state is JobState.PROCESSING:
        return _Rows(running.get(queue.name, ()))
    if state is JobState.PENDING:
        return _Rows(queue.returned.values(), *(line.values() for line in queue.lines.values()))
    return _Rows(queue.buckets[state].values())


def _count(state: JobState, rows: _Rows) -> Counted:
    oldest = None if state in FINISHED else min((row.since for row in rows), default=None)
    return Counted(len(rows), oldest)
