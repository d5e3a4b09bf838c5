"""The readers' facet of the storage: reading jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from jobq_core.records import JobRecord
from jobq_core.states import JobState
from jobq_core.storage import JobStatus, QueueRecord, ReaderStorage, Retention
from jobq_storage_postgres.binary import pack_text
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.programs import drive
from jobq_storage_postgres.records import distinct, get, status_of


class Reading(Facet, ReaderStorage):
    """Reads jobs, and the options of queues. Each operation is one statement: it sees each job in one state."""

    async def get(self, ids: Sequence[UUID], *, connection: Any = None) -> list[JobRecord | None]:
        if connection is not None:
            self._engine.pool.check_open()
            return await self._engine.caller_connections.get(connection, ids)
        return await drive(get(self._engine.statements, ids), self._engine.database.fetch_all)

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
