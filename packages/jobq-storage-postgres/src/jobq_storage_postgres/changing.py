"""The program that changes jobs, whatever their state.

Each statement is a transaction of its own in one round trip, so a client that is paused holds no lock. It changes up to
`CHUNK` jobs. A statement sees the tables as they were when it began. A job that is moved meanwhile is found in no
table: its row was locked where it was, and is gone from there once the lock is free. So a statement runs again for the
jobs that it did not find, until every job was found in some state or is in no table at all.

Two statements do not deadlock, as each locks rows in one order: `waiting`, `ready`, `running`, `outcome` (the order in
which its last SELECT reads them), in each table by id, and unique keys after all of them. A row that another
transaction holds is waited for, as long as the session's lock timeout says, and a unique key for a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias
from uuid import UUID

from psycopg.errors import LockNotAvailable

from jobq_core.errors import StorageError
from jobq_core.states import JobState
from jobq_core.storage import Change
from jobq_storage_postgres.binary import int4s, uuids
from jobq_storage_postgres.errors import caused_by
from jobq_storage_postgres.programs import Program
from jobq_storage_postgres.sql import Statements
from jobq_storage_postgres.topics import topics_of_change
from jobq_storage_postgres.unique_keys import key_is_busy

CHUNK: Final = 1000
"""Maximum number of jobs that one transaction changes."""

Operation: TypeAlias = Literal["abort", "retry", "disable", "enable", "delete", "reschedule", "move", "set_priority"]

_ALTERING: Final = frozenset({"reschedule", "move", "set_priority"})
"""The operations that change what a job waits for. Their statements say whether a job was altered."""
_RESCHEDULED: Final = frozenset({JobState.SCHEDULED, JobState.DISABLED})
"""The states in which a job that was rescheduled waits for its time."""
_UNORDERED: Final = frozenset({"abort", "disable", "delete"})
"""The operations whose statements do not take the jobs' order in the batch."""


def change(
    statements: Statements, operation: Operation, ids: Sequence[UUID], topics: set[str], *values: bytes | None
) -> Program[list[Change]]:
    """Change jobs; each round trip is a transaction of its own.

    topics: updated with what to notify. values: the further parameters of the statement.
    """
    changes: dict[UUID, Change] = {}
    order = {job_id: index for index, job_id in enumerate(dict.fromkeys(ids))}
    given = list(order)
    for start in range(0, len(given), CHUNK):
        chunk = sorted(given[start : start + CHUNK], key=lambda job_id: job_id.bytes)
        while chunk:
            params: list[bytes | None] = [uuids([job_id.bytes for job_id in chunk])]
            if operation not in _UNORDERED:
                params.append(int4s([order[job_id] for job_id in chunk]))
            try:
                (rows,) = yield [(statements[operation], [*params, *values])]
            except (StorageError, LockNotAvailable) as error:
                if operation == "retry" and caused_by(error, LockNotAvailable):
                    yield from _raise_if_busy(statements, chunk)
                raise
            for job_id, before, after, did, queue in rows:
                changed = changes[job_id] = Change(
                    job_id,
                    None if before is None else JobState(before),
                    None if after is None else JobState(after),
                    asked=did and operation not in _ALTERING,
                    altered=did and operation in _ALTERING,
                )
                topics.update(topics_of_change(changed, queue))
            chunk = [job_id for job_id in chunk if job_id not in changes]
    answers: list[Change] = []
    for job_id in ids:
        changed = changes[job_id]
        answers.append(changed)
        changes[job_id] = _again(operation, changed)
    return answers


def _again(operation: Operation, changed: Change) -> Change:
    """Return the answer to the second of two equal ids, which are changed once. There is nothing to withdraw then, and
    only what still waits for a time is rescheduled again."""
    return Change(
        changed.id,
        changed.after,
        changed.after,
        asked=changed.asked and operation != "enable",
        altered=changed.altered and operation == "reschedule" and changed.after in _RESCHEDULED,
    )


def _raise_if_busy(statements: Statements, ids: Sequence[UUID]) -> Program[None]:
    """Raise UniqueKeyBusyError if an open transaction holds the unique key of one of these jobs."""
    (((queue, key, *session),),) = yield [(statements["busy_key"], (uuids([job_id.bytes for job_id in ids]),))]
    if key is not None:
        raise key_is_busy(queue, key, *session, advice="retry the job again later")
