"""The facet of readers: jobs, counts, statistics, queues and workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from jobq_core.records import JobRecord, WorkerRecord
from jobq_core.states import JobState
from jobq_core.storage import JobFilter, JobStatus, Page, QueueRecord, ReaderStorage, StatisticsRecord
from jobq_core.storage.statistics import merge_steps
from jobq_core.timestamps import to_datetime, to_moment
from jobq_storage_sqlite.caller_connection import read_within
from jobq_storage_sqlite.columns import from_ids
from jobq_storage_sqlite.finding import find
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.queue_options import to_queue
from jobq_storage_sqlite.records import to_record, to_status, to_summary, to_worker
from jobq_storage_sqlite.tally import MINUTE, to_histogram


class Reading(StorageOnFile, ReaderStorage):
    """Reads through the reader, one statement per call; `find` may read several times."""

    async def get(self, ids: Sequence[UUID], *, connection: Any = None) -> list[JobRecord | None]:
        if not ids:
            return []
        if connection is None:
            rows = await self._read("get", ids=from_ids(ids))
        else:
            self._file()
            rows = await read_within(connection, self.path, "get", {"ids": from_ids(ids)})
        records = {record.id: record for record in map(to_record, rows)}
        return [records.get(job_id) for job_id in ids]

    async def get_status(self, ids: Sequence[UUID]) -> list[JobStatus | None]:
        statuses = [to_status(row) for row in await self._read("get_status", ids=from_ids(ids))] if ids else []
        found = {status.id: status for status in statuses}
        return [found.get(job_id) for job_id in ids]

    async def output_for(self, queue: str, kind: str, fingerprint: bytes) -> JobStatus | None:
        rows = await self._read("output_for", fingerprint=fingerprint, kind=kind, queue=queue)
        return to_status(rows[0]) if rows else None

    async def find(self, filter: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        limit = max(limit, 0)
        rows = await find(self, filter, after, limit + 1)  # one more shows whether there is a next page
        jobs = [to_summary(row) for row in rows[:limit]]
        return Page(jobs, jobs[-1].id if jobs and len(rows) > limit else None)

    async def counts(self, queue: str | None = None) -> Mapping[str, Mapping[JobState, int]]:
        rows = await (self._read("counts") if queue is None else self._read("counts_of_queue", queue=queue))
        counted: dict[str, dict[JobState, int]] = {}
        if queue is not None:
            counted[queue] = dict.fromkeys(JobState, 0)
        for name, state, count in rows:
            counted.setdefault(name, dict.fromkeys(JobState, 0))[JobState(state)] = count
        return counted

    async def statistics(
        self, queue: str | None = None, *, since: datetime | None = None, until: datetime | None = None, step: int = 60
    ) -> list[StatisticsRecord]:
        now = self._moment().now
        first = now - 60 * MINUTE if since is None else to_moment(since, now)
        end = now if until is None else to_moment(until, now)
        assert first is not None
        assert end is not None
        # A minute counts by its start: -(-x // y) rounds up.
        rows = await self._read("statistics", queue=queue, since=-(-first // MINUTE), until=-(-end // MINUTE))
        return merge_steps([_to_statistics(*row) for row in rows], step)

    async def queues(self) -> list[QueueRecord]:
        return [to_queue(row) for row in await self._read("queues")]

    async def workers(self) -> list[WorkerRecord]:
        return [to_worker(row) for row in await self._read("workers")]


def _to_statistics(
    minute: int,
    queue: str,
    kind: str,
    state: str,
    jobs: int,
    waiting_seconds: float,
    running_seconds: float,
    waiting: str,
    running: str,
) -> StatisticsRecord:
    return StatisticsRecord(
        minute=to_datetime(minute * MINUTE),
        queue=queue,
        kind=kind,
        state=JobState(state),
        jobs=jobs,
        waiting_seconds=waiting_seconds,
        running_seconds=running_seconds,
        waiting=to_histogram(waiting),
        running=to_histogram(running),
    )
