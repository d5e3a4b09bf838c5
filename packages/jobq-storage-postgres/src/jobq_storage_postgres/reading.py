"""The readers' facet of the storage: reading jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from jobq_core.records import JobRecord, JobSummary
from jobq_core.states import JobState
from jobq_core.storage import JobFilter, JobStatus, Page, QueueRecord, ReaderStorage, Retention
from jobq_storage_postgres.binary import pack_int8, pack_text, pack_uuid, texts
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.programs import drive
from jobq_storage_postgres.records import distinct, get, status_of, summary_fields


class Reading(Facet, ReaderStorage):
    """Reads jobs. Each operation is one statement, so that it sees each job in one state."""

    async def get(self, ids: Sequence[UUID], *, connection: Any = None) -> list[JobRecord | None]:
        if connection is not None:
            self._engine.pool.check_open()
            return await self._engine.caller_connections.get(connection, ids)
        return await drive(get(self._engine.statements, ids), self._engine.database.fetch_all)

    async def find(self, filter: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        states = texts([state.value for state in sorted(filter.states)]) if filter.states else None
        queue = None if filter.queue is None else pack_text(filter.queue)
        kinds = texts(filter.kinds) if filter.kinds else None
        tags = texts(filter.tags) if filter.tags else None
        # One more than the limit shows whether there is a next page.
        page = (None if after is None else pack_uuid(after), pack_int8(limit + 1))
        if filter.run_id is not None:
            rows = await self._engine.fetch("find_run", *page, queue, kinds, states, tags, pack_text(filter.run_id))
        elif tags is not None:
            rows = await self._engine.fetch("find_tag", *page, queue, kinds, states, tags)
        elif queue is not None or kinds is not None:
            rows = await self._engine.fetch("find_line", *page, queue, kinds, states)
        elif states is not None:
            rows = await self._engine.fetch("find_state", *page, states)
        else:
            rows = await self._engine.fetch("find", *page)
        jobs = [JobSummary(**summary_fields(row)) for row in rows[:limit]]
        return Page(jobs, jobs[-1].id if jobs and len(rows) > limit else None)

    async def counts(self, queue: str | None = None) -> Mapping[str, Mapping[JobState, int]]:
        counted: dict[str, dict[JobState, int]] = {}
        if queue is None:
            rows = await self._engine.fetch("counts")
        else:
            counted[queue] = dict.fromkeys(JobState, 0)
            rows = await self._engine.fetch("counts_of", pack_text(queue))
        for name, state, count in rows:
            counted.setdefault(name, dict.fromkeys(JobState, 0))[JobState(state)] = count
        return counted

    async def oldest_transaction(self) -> float | None:
        ((seconds,),) = await self._engine.fetch("oldest_transaction")
        return float(seconds)

    async def queues(self) -> list[QueueRecord]:
        return [
            QueueRecord(
                name=name,
                paused_at=paused_at,
                paused_by=paused_by,
                retention=Retention(completed=completed, failed=failed, aborted=aborted) if has_retention else None,
                owner=owner,
            )
            for (
                name, paused_at, paused_by, has_retention, owner, completed, failed, aborted,
            ) in await self._engine.fetch("queues")
        ]  # fmt: skip

    async def get_status(self, ids: Sequence[UUID]) -> list[JobStatus | None]:
        if not ids:
            return []
        rows = await self._engine.fetch("get_status", distinct(ids))
        found = {row[0]: status_of(row) for row in rows}
        return [found.get(job_id) for job_id in ids]

    async def output_for(self, queue: str, kind: str, fingerprint: bytes) -> JobStatus | None:
        rows = await self._engine.fetch("output_for", pack_text(queue), pack_text(kind), fingerprint)
        return status_of(rows[0]) if rows else None
