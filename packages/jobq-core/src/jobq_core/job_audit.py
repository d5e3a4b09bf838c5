"""What operators did to one job: its entries of the audit, and the bulk operations that changed it.

A bulk operation is one row, with no entry for each of its jobs. That it changed a job is concluded from both: its
filter matches the job, it has worked on the job's id, and the job came to its present state by the action in the time
of the operation. What cannot be concluded is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from jobq_core.records import JobRecord
from jobq_core.states import JobState, StopRequest
from jobq_core.storage import Action, AuditEntry, JobFilter, Operation, OperationState, QueueStorage
from jobq_core.storage.searching import has_argument, has_error

NEWEST: Final = 100
"""The number of bulk operations that are looked at, newest first."""
OPERATION: Final = "operation"
"""The key of an entry's details for the id of the bulk operation that it stands for."""
_LEADS_TO: Final = {Action.ABORT: JobState.ABORTED, Action.DISABLE: JobState.DISABLED}
_ASKS_FOR: Final = {Action.ABORT: StopRequest.ABORT, Action.DISABLE: StopRequest.DISABLE}
_SAME: Final = timedelta(milliseconds=1)


async def audit_of(storage: QueueStorage, record: JobRecord) -> list[AuditEntry]:
    """Return what operators did to a job, newest first: the newest 100 entries of its audit, and those of the newest
    100 bulk operations that aborted, disabled or rescheduled it."""
    entries = await storage.audit(target=str(record.id))
    entries += bulk_changes(record, await storage.operations(limit=NEWEST))
    return sorted(entries, key=lambda entry: entry.at, reverse=True)


def bulk_changes(record: JobRecord, operations: Iterable[Operation]) -> list[AuditEntry]:
    """Return an entry for each operation that brought the job to its present state, or asked its handler to stop."""
    return [
        AuditEntry(
            id=operation.id,
            at=at,
            actor=operation.actor,
            action=operation.action.value,
            target=str(record.id),
            details={OPERATION: str(operation.id)},
        )
        for operation in operations
        if operation.changed
        and _has_worked_on(operation, record)
        and _matches(operation.filter, record)
        and (at := _changed_at(operation, record)) is not None
    ]


def operation_of(entry: AuditEntry) -> str | None:
    """Return the id of the bulk operation that an entry stands for; None for what was done to the job alone."""
    return entry.details.get(OPERATION) if isinstance(entry.details, dict) else None


def _has_worked_on(operation: Operation, record: JobRecord) -> bool:
    if record.id >= operation.before:
        return False
    if operation.state is OperationState.DONE:
        return True
    return operation.cursor is not None and record.id >= operation.cursor


def _changed_at(operation: Operation, record: JobRecord) -> datetime | None:
    """Return when the operation changed the job, or may have at the earliest; None if it did not."""
    begun, ended, action = operation.created_at, operation.worked_at, operation.action
    since = record.finished_at or record.since
    if ended is None:
        return None
    if action is Action.RESCHEDULE:
        is_so = record.state is JobState.SCHEDULED and record.run_at == datetime.fromisoformat(str(operation.value))
        return begun if is_so else None
    was_asked = record.stop_request is not None and record.stop_request is _ASKS_FOR.get(action)
    if since is not None and record.state is _LEADS_TO.get(action):
        if begun <= since <= ended:
            return since
        was_asked = begun <= since and _ran_until(record, since)
    if was_asked and record.started_at is not None and record.started_at <= ended:
        return max(begun, record.started_at)
    return None


def _ran_until(record: JobRecord, moment: datetime) -> bool:
    """Whether a run ended at this moment: the job was running when it was asked to stop."""
    return bool(record.attempts) and abs(record.attempts[-1].finished_at - moment) <= _SAME


def _matches(wanted: JobFilter, record: JobRecord) -> bool:
    """Whether a filter matches a job, but for the state, in which the job is no longer."""
    return (
        (wanted.queue is None or record.queue == wanted.queue)
        and (not wanted.kinds or record.kind in wanted.kinds)
        and all(tag in record.tags for tag in wanted.tags)
        and (wanted.run_id is None or record.run_id == wanted.run_id)
        and (wanted.since is None or record.created_at >= wanted.since)
        and (wanted.until is None or record.created_at < wanted.until)
        and has_error(record.error, wanted)
        and (wanted.argument is None or has_argument(record.arguments_json, record.meta_json, *wanted.argument))
        and (wanted.worker is None or record.worker == wanted.worker)
        and (wanted.parent is None or record.parent == wanted.parent)
    )
