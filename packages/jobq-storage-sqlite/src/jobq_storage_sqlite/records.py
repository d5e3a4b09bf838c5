"""From rows to the contract's values."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from jobq_core.records import (
    AttemptRecord,
    ErrorRecord,
    JobRecord,
    JobSummary,
    WorkerInfo,
    WorkerRecord,
    decode_stats,
    decode_versions,
)
from jobq_core.states import JobState
from jobq_core.storage import JobStatus
from jobq_core.timestamps import SECOND, to_datetime, to_optional_datetime
from jobq_storage_sqlite.columns import to_error, to_id, to_optional_id, to_progress, to_request, to_tags
from jobq_storage_sqlite.runs import FOLLOWED, GATED


def to_status(row: Any) -> JobStatus:
    """Return the status of a row of get_status."""
    job_id, kind, queue, state, attempt, percent, message, details, worker, result, *error = row
    return JobStatus(
        id=to_id(job_id),
        kind=kind,
        queue=queue,
        state=JobState(state),
        attempt=attempt,
        progress=to_progress(percent, message, details),
        worker=to_optional_id(worker),
        result_json=result,
        error=to_error(*error),
    )


def to_summary(row: Any) -> JobSummary:
    """Return the summary of a row of find."""
    *columns, percent, message, kind, text = row
    error = None if kind is None else ErrorRecord(type=kind, message=text)
    return JobSummary(**_fields(columns), progress=to_progress(percent, message, None), error=error)


def to_record(row: Any) -> JobRecord:
    """Return the record of a row of get."""
    *columns, percent, message, details, arguments, result, meta, error_lease, history = row
    kept = [_to_attempt(*attempt) for attempt in msgspec.json.decode(history)]
    return JobRecord(
        **_fields(columns),
        progress=to_progress(percent, message, details),
        arguments_json=arguments,
        result_json=result,
        meta_json=meta,
        error=next((attempt.error for attempt in kept if attempt.lease == error_lease), None),
        attempts=tuple([attempt for attempt in kept if attempt.number > 0]),
    )


def _fields(columns: Any) -> dict[str, Any]:
    """Return the fields of a JobSummary, without its progress and error, of the columns of `summary`."""
    (
        job_id,
        kind,
        queue,
        state,
        priority,
        created_at,
        run_at,
        deadline,
        timeout,
        attempt,
        max_attempts,
        run_id,
        tags,
        unique_key,
        reason,
        request,
        worker,
        lease,
        started_at,
        finished_at,
        since,
        flags,
    ) = columns
    return {
        "id": to_id(job_id),
        "kind": kind,
        "queue": queue,
        "state": JobState(state),
        "priority": priority,
        "created_at": to_datetime(created_at),
        "run_at": to_optional_datetime(run_at),
        "deadline": to_optional_datetime(deadline),
        "timeout": timeout,
        "attempt": attempt,
        "max_attempts": max_attempts,
        "run_id": run_id,
        "tags": to_tags(tags),
        "unique_key": unique_key,
        "reason": reason,
        "stop_request": to_request(request),
        "worker": to_optional_id(worker),
        "lease": lease,
        "started_at": to_optional_datetime(started_at),
        "finished_at": to_optional_datetime(finished_at),
        "since": to_datetime(since),
        "gated": bool(flags & GATED),
        "followed": bool(flags & FOLLOWED),
    }


def _to_attempt(
    number: int,
    lease: int,
    worker: str,
    started_at: int,
    finished_at: int,
    kind: str,
    message: str,
    traceback: str | None,
) -> AttemptRecord:
    """Return the attempt of an element of a row's history. worker: hexadecimal, empty for None."""
    return AttemptRecord(
        number=number,
        lease=lease,
        worker=UUID(worker) if worker else None,
        started_at=to_datetime(started_at),
        finished_at=to_datetime(finished_at),
        error=ErrorRecord(type=kind, message=message, traceback=traceback),
    )


def to_worker(row: Any) -> WorkerRecord:
    """Return the worker of a row of workers."""
    (
        worker,
        name,
        host,
        pid,
        queues,
        kinds,
        concurrency,
        lost_after,
        versions,
        stats,
        started_at,
        beat_at,
        expires_at,
    ) = row
    return WorkerRecord(
        info=WorkerInfo(
            id=to_id(worker),
            name=name,
            host=host,
            pid=pid,
            queues=to_tags(queues),
            kinds=to_tags(kinds),
            concurrency=concurrency,
            lost_after=lost_after / SECOND,
            versions=decode_versions(versions),
        ),
        started_at=to_datetime(started_at),
        beat_at=to_datetime(beat_at),
        expires_at=to_datetime(expires_at),
        stats=decode_stats(stats),
    )
