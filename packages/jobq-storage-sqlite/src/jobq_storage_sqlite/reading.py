"""The facet of readers: jobs, counts and workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from jobq_core.records import JobRecord, JobSummary, WorkerRecord
from jobq_core.states import JobState
from jobq_core.storage import JobFilter, JobStatus, Page, ReaderStorage
from jobq_storage_sqlite.columns import from_ids, to_array
from jobq_storage_sqlite.open_file import StorageOnFile
from jobq_storage_sqlite.records import to_record, to_status, to_worker

FEW: Final = 50_000
"""The largest number of jobs in the states of a filter that are found by state and then sorted. If there are more,
going down from the newest id meets enough of them soon."""

_AFTER_ALL_IDS: Final = b"\xff" * 17


class Reading(StorageOnFile, ReaderStorage):
    """Reads through the reader, one statement per call; `find` may count first."""

    async def get(self, ids: Sequence[UUID]) -> list[JobRecord | None]:
        records = [to_record(row) for row in await self._read("get", ids=from_ids(ids))] if ids else []
        found = {record.id: record for record in records}
        return [found.get(job_id) for job_id in ids]

    async def get_status(self, ids: Sequence[UUID]) -> list[JobStatus | None]:
        statuses = [to_status(row) for row in await self._read("get_status", ids=from_ids(ids))] if ids else []
        found = {status.id: status for status in statuses}
        return [found.get(job_id) for job_id in ids]

    async def output_for(self, queue: str, kind: str, fingerprint: bytes) -> JobStatus | None:
        rows = await self._read("output_for", fingerprint=fingerprint, kind=kind, queue=queue)
        return to_status(rows[0]) if rows else None

    async def find(self, filter: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        states = to_array(sorted(filter.states)) if filter.states else None
        if filter.run_id is not None:
            name = "find_run_id"
        elif states is not None and JobState.COMPLETED not in filter.states and await self._are_few(states):
            name = "find_states"
        else:
            name = "find"
        rows = await self._read(
            name,
            before=_AFTER_ALL_IDS if after is None else after.bytes,
            queue=filter.queue,
            states=states,
            kinds=to_array(filter.kinds) if filter.kinds else None,
            tags=to_array(filter.tags) if filter.tags else None,
            run_id=filter.run_id,
            limit=max(limit, 0) + 1,  # one more shows whether there is a next page
        )
        jobs: list[JobSummary] = [to_record(row) for row in rows[:limit]]
        return Page(jobs, jobs[-1].id if jobs and len(rows) > limit else None)

    async def _are_few(self, states: str) -> bool:
        ((count,),) = await self._read("count_states", states=states, limit=FEW + 1)
        return bool(count <= FEW)

    async def counts(self, queue: str | None = None) -> Mapping[str, Mapping[JobState, int]]:
        rows = await (self._read("counts") if queue is None else self._read("counts_of_queue", queue=queue))
        counted: dict[str, dict[JobState, int]] = {}
        if queue is not None:
            counted[queue] = dict.fromkeys(JobState, 0)
        for name, state, count in rows:
            counted.setdefault(name, dict.fromkeys(JobState, 0))[JobState(state)] = count
        return counted

    async def workers(self) -> list[WorkerRecord]:
        return [to_worker(row) for row in await self._read("workers")]
