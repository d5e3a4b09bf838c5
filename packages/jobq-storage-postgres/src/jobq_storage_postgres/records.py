"""From rows to records, and the program that reads records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from jobq_core.encoding import decode, decode_or_show
from jobq_core.records import AttemptRecord, ErrorRecord, JobRecord, Progress
from jobq_core.states import JobState, StopRequest
from jobq_core.storage import JobStatus
from jobq_core.timestamps import to_datetime
from jobq_storage_postgres.binary import uuids
from jobq_storage_postgres.columns import FOLLOWED_FLAG, GATED_FLAG
from jobq_storage_postgres.programs import Program
from jobq_storage_postgres.sql import Statements


def get(statements: Statements, ids: Sequence[UUID]) -> Program[list[JobRecord | None]]:
    """Read the full records of jobs."""
    if not ids:
        return []
    (rows,) = yield [(statements["get"], (distinct(ids),))]
    found = {row[0]: record_of(row) for row in rows}
    return [found.get(job_id) for job_id in ids]


def to_tags(tags: Sequence[Any] | None) -> tuple[str, ...]:
    """Return the tags of an array; an element that was edited by hand to another type becomes its text."""
    return tuple(tag if isinstance(tag, str) else str(tag) for tag in tags or ())


def distinct(ids: Sequence[UUID]) -> bytes:
    """Pack ids, each once."""
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


SUMMARY: Final = 26
"""The number of columns that `find` answers, and `get` first."""


def summary_fields(row: Sequence[Any]) -> dict[str, Any]:
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
    arguments, meta, result, details, traceback, attempts = row[SUMMARY:]
    fields = summary_fields(row[:SUMMARY])
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
