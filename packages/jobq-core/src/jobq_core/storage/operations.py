"""The facet of bulk operations and of the audit: what operators did, and what of it is still to be done.

An operation is a row that says what to do with which jobs. `jobq_core.operations` works it off, a slice at a time, so
that another process goes on with it after a kill. The audit is the list of what operators did.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import attrs
import msgspec
from msgspec import Struct

from jobq_core.errors import StorageError
from jobq_core.storage.reader import JobFilter

AUDIT_DAYS: Final = 90
"""Days that `prune` keeps entries of the audit, and operations after their end."""


class Action(StrEnum):
    """What an operator does with jobs."""

    ABORT = "abort"
    RETRY = "retry"
    DISABLE = "disable"
    ENABLE = "enable"
    DELETE = "delete"
    RUN_NOW = "run-now"
    RESCHEDULE = "reschedule"
    MOVE = "move"
    PRIORITY = "priority"


class OperationState(StrEnum):
    """Where a bulk operation is: to be worked on, or how it ended."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class Operation(Struct, frozen=True, kw_only=True):
    """A bulk operation.

    value: of RESCHEDULE the moment in ISO 8601, of MOVE the queue, of PRIORITY the priority as text; else None.
    filter: the jobs that it is for, of those that existed when it was made: `before` is the first id that did not.
    actor: who made it, as the command or the server knows them.
    matched: the jobs that the preview counted; None if they were more than it counts.
    cursor: the id of the last job that was worked on; jobs are worked on newest first.
    done: the jobs worked on so far; changed: those of them that were changed; refused: those that could not be.
    worked_at: when a slice was last worked off.
    """

    id: UUID
    action: Action
    value: str | None
    filter: JobFilter
    before: UUID
    actor: str
    created_at: datetime
    matched: int | None = None
    state: OperationState = OperationState.RUNNING
    cursor: UUID | None = None
    done: int = 0
    changed: int = 0
    refused: int = 0
    worked_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = None


def decode_filter(data: bytes | str, operation: UUID) -> JobFilter:
    """Return the filter of an operation. Raises StorageError for one that this version of jobq does not know: without a
    condition that a later version has, it would match other jobs too."""
    try:
        unknown = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).keys() - _CONDITIONS
        if not unknown:
            return msgspec.json.decode(data, type=JobFilter)
        problem = f"unknown conditions: {', '.join(sorted(unknown))}"
    except (msgspec.MsgspecError, UnicodeError) as error:
        problem = str(error)
    raise StorageError(
        f"the filter of operation {operation} is not one that this version of jobq knows ({problem}): delete its row, "
        "or upgrade jobq-core"
    )


_CONDITIONS: Final = {field.name for field in attrs.fields(JobFilter)}


class AuditEntry(Struct, frozen=True, kw_only=True):
    """One thing that an operator did.

    action: the value of an Action, or 'pause', 'resume', 'retention', 'clear', 'drain', 'stack', 'add', 'purge'.
    target: the id of the job, the name of the queue, the id of the worker or of the operation.
    details: what else was said, of any JSON type; no arguments and no results of jobs.
    """

    id: UUID
    at: datetime
    actor: str
    action: str
    target: str
    details: Any = None


class OperationStorage(abc.ABC):
    """What keeps bulk operations and the audit."""

    @abc.abstractmethod
    async def add_operation(self, operation: Operation) -> None:
        """Store an operation; a repeated call with the same id changes nothing. `created_at` is replaced by the
        storage's now. It is kept for AUDIT_DAYS after its end."""

    @abc.abstractmethod
    async def operations(
        self, ids: Sequence[UUID] | None = None, *, running: bool = False, limit: int = 100
    ) -> list[Operation]:
        """Return the operations of these ids, in any order, or the newest ones, newest id first.

        running: instead of the newest ones, return the oldest ones that are RUNNING, oldest id first. Raises
        StorageError for a filter that this version does not know.
        """

    @abc.abstractmethod
    async def save_operation(self, operation: Operation, *, seen: UUID | None) -> bool:
        """Store the progress of an operation, if it is not DONE and its cursor is still `seen`; return whether it was.

        So of two processes that work on the same slice, one goes on. Stores cursor, done, changed, refused, state and
        error; `worked_at`, and `finished_at` of an operation that is not RUNNING any more, become now. An operation
        that was cancelled during the slice stays CANCELLED, and what the slice did is counted.
        """

    @abc.abstractmethod
    async def cancel_operation(self, id: UUID) -> bool:
        """End a RUNNING operation as CANCELLED after the slice that is worked on; return whether it was RUNNING."""

    @abc.abstractmethod
    async def record_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Keep entries of the audit, for AUDIT_DAYS. `at` is replaced by the storage's now; a repeated id changes
        nothing."""

    @abc.abstractmethod
    async def audit(
        self, *, target: str | None = None, after: UUID | None = None, limit: int = 100
    ) -> list[AuditEntry]:
        """Return entries of the audit, newest id first: those of a target, or all; those after (older than) `after`."""
