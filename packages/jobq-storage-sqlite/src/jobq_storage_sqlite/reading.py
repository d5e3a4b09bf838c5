"""The facet of readers: jobs, counts, queues and workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from jobq_core.records import JobRecord, WorkerRecord
from jobq_core.states import JobState
from jobq_core.storage import JobStatus, QueueRecord, ReaderStorage
from jobq_storage_sqlite.caller_connection import read_within
from jobq_storage_sqlite.columns import from_ids
from jobq_storage_sqlite.depths import range_of
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.queue_options import to_queue
from jobq_storage_sqlite.records import to_record, to_status, to_worker


class Reading(StorageOnFile, ReaderStorage):
    """Reads through the reader, one statement per call."""

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

    async def counts(self, queue: str | None = None) -> Mapping[str, Mapping[JobState, int]]:
        rows = await self._read("depths", **range_of(queue), limit=-1)
        counted: dict[str, dict[JobState, int]] = {}
        if queue is not None:
            counted[queue] = dict.fromkeys(JobState, 0)
        for name, state, count, _ in rows:
            counted.setdefault(name, dict.fromkeys(JobState, 0))[JobState(state)] = count
        return counted

    async def queues(self) -> list[QueueRecord]:
        return [to_queue(row) for row in await self._read("queues")]

    async def workers(self) -> list[WorkerRecord]:
        return [to_worker(row) for row in await self._read("workers")]
