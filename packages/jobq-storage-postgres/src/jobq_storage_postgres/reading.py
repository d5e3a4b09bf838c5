"""The readers' facet of the storage: reading jobs, and how rows become records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from jobq_core.encoding import decode, decode_or_show
from jobq_core.records import AttemptRecord, ErrorRecord, JobRecord, JobSummary, Progress
from jobq_core.states import JobState, StopRequest
from jobq_core.storage import JobFilter, JobStatus, Page, QueueRecord, ReaderStorage, Retention
from jobq_core.timestamps import to_datetime
from jobq_storage_postgres.binary import pack_int8, pack_text, pack_uuid, texts, uuids
from jobq_storage_postgres.columns import FOLLOWED_FLAG, GATED_FLAG
from jobq_storage_postgres.engine import Facet
from jobq_storage_postgres.programs import Program, drive
from jobq_storage_postgres.sql import Statements


def get(statements: Statements, ids: Sequence[UUID]) -> Program[list[JobRecord | None]]:
    """Read the full records of jobs."""
    if not ids:
        return []
    (rows,) = yield [(statements["get"], (_distinct(ids),))]
    found = {row[0]: record_of(row) for row in rows}
    return [found.get(job_id) for job_id in ids]


class Reading(Facet, ReaderStorage):
    """Reads jobs. Each operation is one statement, so that it sees each job in one state."""

    async def get(self, ids: Sequence[UUID]) -> list[JobRecord | None]:
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
        jobs = [JobSummary(**_summary(row)) for row in rows[:limit]]
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

    async def queues(self) -> list[QueueRecord]:
        return [
            QueueRecord(
                name=name,
                paused_at=paused_at,
                retention=Retention(completed=completed, failed=failed, aborted=aborted) if has_retention else None,
                owner=owner,
            )
            for name, paused_at, has_retention, owner, completed, failed, aborted in await self._engine.fetch("queues")
        ]

    async def get_status(self, ids: Sequence[UUID]) -> list[JobStatus | None]:
        if not ids:
            return []
        rows = await self._engine.fetch("get_status", _distinct(ids))
        found = {row[0]: status_of(row) for row in rows}
        return [found.get(job_id) for job_id in ids]

    async def output_for(self, queue: str, kind: str, fingerprint: bytes) -> JobStatus | None:
        rows = await self._engine.fetch("output_for", pack_text(queue), pack_text(kind), fingerprint)
        return status_of(rows[0]) if rows else None


def to_tags(tags: Sequence[Any] | None) -> tuple[str, ...]:
    """Return the tags of an array; an element that was edited by hand to another type becomes its text."""
    return tuple(tag if isinstance(tag, str) else str(tag) for tag in tags or ())


def _distinct(ids: Sequence[UUID]) -> bytes:
    return uuids(list(dict.fromkeys(job_id.bytes for job_id in ids)))


def _progress(percent: float | None, message: str | None, details: bytes | None) -> Progress:
    return Progress(
        percent=0.0 if percent is None else percent,
        message=message,
        details=None if details is None else decode_or_show(details),
    )


def _error(name: str | None, message: str | None, traceback: str | None) -> ErrorRecord | None:
    return None if name is None else ErrorRecord(type=name, message=message or "", traceback=traceback)


def _attempts(data: bytes | None) -> tuple[AttemptRecord, ...]:
    if data is None:
        return ()
    return tuple(
        AttemptRecord(
            number=number,
            lease=lease,
            worker=None if worker is None else UUID(worker),
            started_at=to_datetime(started_at),
            finished_at=to_datetime(finished_at),
            error=ErrorRecord(type=name, message=message, traceback=traceback),
        )
        for number, lease, worker, started_at, finished_at, name, message, traceback in decode(data)
    )


_SUMMARY: Final = 26
"""The number of columns that `find` answers, and `get` first."""


def _summary(row: Sequence[Any]) -> dict[str, Any]:
    """Return the fields of a JobSummary."""
    (
        job_id, kind, queue, state, priority, created_at, run_at, deadline, timeout, attempt, max_attempts, run_id,
        tags, unique_key, reason, request, worker, lease, started_at, finished_at, since, flags, percent, message,
        error_type, error_message,
    ) = row  # fmt: skip
    return {
        "id": job_id,
        "kind": kind,
        "queue": queue,
        "state": JobState(state),
        "priority": priority,
        "created_at": created_at,
        "run_at": run_at,
        "deadline": deadline,
        "timeout": timeout,
        "attempt": attempt,
        "max_attempts": max_attempts,
        "run_id": run_id,
        "tags": to_tags(tags),
        "unique_key": unique_key,
        "reason": reason,
        "stop_request": None if request is None else StopRequest(request),
        "worker": worker,
        "lease": lease,
        "started_at": started_at,
        "finished_at": finished_at,
        "since": since,
        "gated": bool(flags & GATED_FLAG),
        "followed": bool(flags & FOLLOWED_FLAG),
        "progress": _progress(percent, message, None),
        "error": _error(error_type, error_message, None),
    }


def record_of(row: Sequence[Any]) -> JobRecord:
    """Return the record of a row of `get`."""
    arguments, meta, result, details, traceback, attempts = row[_SUMMARY:]
    fields = _summary(row[:_SUMMARY])
    fields["progress"] = _progress(fields["progress"].percent, fields["progress"].message, details)
    if fields["error"] is not None:
        fields["error"] = _error(fields["error"].type, fields["error"].message, traceback)
    return JobRecord(
        **fields, arguments_json=arguments, meta_json=meta, result_json=result, attempts=_attempts(attempts)
    )


def status_of(row: Sequence[Any]) -> JobStatus:
    """Return the status of a row of `get_status`."""
    (
        job_id, kind, queue, state, attempt, worker, percent, message, details, result, error_type, error_message,
        error_traceback,
    ) = row  # fmt: skip
    return JobStatus(
        id=job_id,
        kind=kind,
        queue=queue,
        state=JobState(state),
        attempt=attempt,
        progress=_progress(percent, message, details),
        worker=worker,
        result_json=result,
        error=_error(error_type, error_message, error_traceback),
    )
