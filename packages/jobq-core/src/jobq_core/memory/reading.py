"""Reading jobs and workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from jobq_core.memory.rows import copy_stats
from jobq_core.memory.tally import MINUTE
from jobq_core.memory.transaction import MemoryTransactions
from jobq_core.records import JobRecord, WorkerRecord
from jobq_core.states import JobState
from jobq_core.storage import JobStatus, QueueRecord, ReaderStorage, StatisticsRecord
from jobq_core.storage.statistics import check_step
from jobq_core.timestamps import to_datetime, to_moment


class Reading(MemoryTransactions, ReaderStorage):
    """The facet of readers."""

    async def get(self, ids: Sequence[UUID], *, connection: Any = None) -> list[JobRecord | None]:
        self._check_connection(connection)
        with self._transaction() as store:
            return [None if row is None else row.record() for row in map(store.jobs.get, ids)]

    async def counts(self, queue: str | None = None) -> Mapping[str, Mapping[JobState, int]]:
        with self._transaction() as store:
            counted: dict[str, dict[JobState, int]] = {}
            for each in store.queues.values():
                if queue is None or each.name == queue:
                    counted[each.name] = {state: len(each.buckets.get(state, ())) for state in JobState}
                    counted[each.name][JobState.PENDING] = each.pending()
            for row in store.running.values():
                if queue is None or row.queue.name == queue:
                    counted[row.queue.name][JobState.PROCESSING] += 1
        if queue is not None:
            return counted or {queue: dict.fromkeys(JobState, 0)}
        # A queue exists through its jobs: one without jobs is not in the answer.
        return {name: states for name, states in counted.items() if any(states.values())}

    async def queues(self) -> list[QueueRecord]:
        with self._transaction() as store:
            records = (queue.record() for _, queue in sorted(store.queues.items()))
            return [record for record in records if record.paused_at or record.retention]

    async def statistics(
        self,
        queue: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        step: int = 60,
        together: bool = False,
    ) -> list[StatisticsRecord]:
        check_step(step)
        with self._transaction() as store:
            now = store.clock.now()
            first = now - 60 * MINUTE if since is None else to_moment(since, now)
            end = now + 1 if until is None else to_moment(until, now)
            return store.tally.records(queue, first, end, step, together=together)

    async def get_status(self, ids: Sequence[UUID]) -> list[JobStatus | None]:
        with self._transaction() as store:
            return [None if row is None else row.status() for row in map(store.jobs.get, ids)]

    async def output_for(self, queue: str, kind: str, fingerprint: bytes) -> JobStatus | None:
        with self._transaction() as store:
            found = store.queues.get(queue)
            completed = () if found is None else found.buckets[JobState.COMPLETED].values()
            matching = (row for row in completed if row.job.fingerprint == fingerprint and row.job.kind == kind)
            newest = max(matching, key=lambda row: row.job.id.int, default=None)
            return None if newest is None else newest.status()

    async def workers(self) -> list[WorkerRecord]:
        with self._transaction() as store:
            return [
                WorkerRecord(
                    info=row.info,
                    started_at=to_datetime(row.started_at),
                    beat_at=to_datetime(row.beat_at),
                    expires_at=to_datetime(row.beat_at + row.lost_after),
                    stats=copy_stats(row.stats),
                )
                for row in store.workers.values()
            ]
