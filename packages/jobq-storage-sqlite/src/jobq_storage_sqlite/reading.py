"""What can be read of jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from jobq_core.records import AttemptRecord, ErrorRecord, JobRecord
from jobq_core.states import JobState
from jobq_core.storage import JobFilter, JobStatus, LeaseStatus, Page
from jobq_core.timestamps import to_datetime, to_optional_datetime
from jobq_storage_sqlite.columns import (
    CODE,
    STATES,
    to_array,
    to_error,
    to_id,
    to_optional_id,
    to_progress,
    to_request,
    to_tags,
)
from jobq_storage_sqlite.transaction import Transaction

FEW: Final = 50_000
"""How many jobs may be in the states looked for, to be found by state and sorted; more are met soon enough by id."""


def get(transaction: Transaction, ids: Sequence[UUID]) -> list[JobRecord | None]:
    """Return all that is known of each job; see `QueueStorage.get`."""
    rows = [transaction.one("get", job_id.bytes) for job_id in ids]
    return [None if row is None else _record(transaction, row) for row in rows]


def get_status(transaction: Transaction, ids: Sequence[UUID]) -> list[JobStatus | None]:
    """Return what waiters need of each job; see `QueueStorage.get_status`."""
    rows = [transaction.one("get_status", job_id.bytes) for job_id in ids]
    return [None if row is None else _status(row) for row in rows]


def output_for(transaction: Transaction, queue: str, kind: str, fingerprint: bytes) -> JobStatus | None:
    """Return the newest completed job of equal arguments; see `QueueStorage.output_for`."""
    row = transaction.one("output_for", fingerprint, kind, queue)
    return None if row is None else _status(row)


def check_leases(transaction: Transaction, worker: UUID, leases: Sequence[tuple[UUID, int]]) -> list[LeaseStatus]:
    """Say which leases still stand; see `QueueStorage.check_leases`."""
    rows = [transaction.one("check_leases", job_id.bytes, lease, worker.bytes) for job_id, lease in leases]
    return [LeaseStatus(False) if row is None else LeaseStatus(True, to_request(row[0])) for row in rows]


def find(transaction: Transaction, filter: JobFilter, after: UUID | None, limit: int) -> Page:
    """Return matching jobs, newest first; see `QueueStorage.find`."""
    states = None if not filter.states else to_array([CODE[state] for state in filter.states])
    asked = {
        "before": b"\xff" * 17 if after is None else after.bytes,
        "queue": filter.queue,
        "states": states,
        "kinds": to_array(filter.kinds) if filter.kinds else None,
        "tags": to_array(filter.tags) if filter.tags else None,
        "run_id": filter.run_id,
        # One more than asked for tells whether there is a next page.
        "limit": max(limit, 0) + 1,
    }
    if filter.run_id is not None:
        name = "find_run"
    elif _are_few(transaction, filter, states):
        name = "find_states"
    else:
        name = "find"
    found = [job_id for (job_id,) in transaction.all(name, **asked)]
    jobs = [_record(transaction, transaction.one("get", job_id)) for job_id in found[:limit]]
    return Page(jobs, jobs[-1].id if jobs and len(found) > limit else None)


def _are_few(transaction: Transaction, filter: JobFilter, states: str | None) -> bool:
    if states is None or JobState.COMPLETED in filter.states:
        return False
    (count,) = transaction.one("in_states", states=states, limit=FEW + 1)
    return bool(count <= FEW)


def counts(transaction: Transaction, queue: str | None) -> Mapping[str, Mapping[JobState, int]]:
    """Count jobs by queue and state; see `QueueStorage.counts`."""
    rows = transaction.all("counts") if queue is None else transaction.all("counts_of", queue=queue)
    counted: dict[str, dict[JobState, int]] = {}
    if queue is not None:
        counted[queue] = dict.fromkeys(JobState, 0)
    for name, state, count in rows:
        if count:
            counted.setdefault(name, dict.fromkeys(JobState, 0))[STATES[state]] = count
    return counted


def _status(row: Any) -> JobStatus:
    job_id, kind, queue, state, attempt, percent, message, details, worker, result, *error = row
    return JobStatus(
        id=to_id(job_id),
        kind=kind,
        queue=queue,
        state=STATES[state],
        attempt=attempt,
        progress=to_progress(percent, message, details),
        worker=to_optional_id(worker),
        result_json=result,
        error=to_error(*error),
    )


def _record(transaction: Transaction, row: Any) -> JobRecord:
    (
        n,
        job_id,
        kind,
        queue,
        state,
        urgency,
        arguments,
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
        percent,
        message,
        details,
        result,
        error_lease,
    ) = row
    attempts = tuple(_attempt(kept) for kept in transaction.all("attempts", n))
    return JobRecord(
        id=to_id(job_id),
        kind=kind,
        queue=queue,
        state=STATES[state],
        priority=-urgency,
        arguments_json=arguments,
        created_at=to_datetime(created_at),
        run_at=to_optional_datetime(run_at),
        deadline=to_optional_datetime(deadline),
        timeout=timeout,
        attempt=attempt,
        max_attempts=max_attempts,
        run_id=run_id,
        tags=to_tags(tags),
        unique_key=unique_key,
        reason=reason,
        stop_request=to_request(request),
        worker=to_optional_id(worker),
        lease=lease,
        started_at=to_optional_datetime(started_at),
        finished_at=to_optional_datetime(finished_at),
        progress=to_progress(percent, message, details),
        result_json=result,
        error=next((kept.error for kept in attempts if kept.lease == error_lease), None),
        attempts=attempts,
    )


def _attempt(row: Any) -> AttemptRecord:
    number, lease, worker, started_at, finished_at, kind, message, traceback = row
    return AttemptRecord(
        number=number,
        lease=lease,
        worker=to_optional_id(worker),
        started_at=to_datetime(started_at),
        finished_at=to_datetime(finished_at),
        error=ErrorRecord(type=kind, message=message, traceback=traceback),
    )


def rings(transaction: Transaction, topics: Sequence[str]) -> dict[str, int]:
    """Return how often each topic rang so far."""
    found = dict.fromkeys(topics, 0)
    found.update(transaction.all("rings", to_array(topics)))
    return found
