"""Bulk operations: what is done to all jobs that match a filter, in slices, so that a kill costs one slice at most.

`start` stores an `Operation`; `work` works off its next slice, and may be called by any process: the command that
started it, a server, or the worker that leads the maintenance, which goes on with an operation that was left behind.
Doing an action twice to the same jobs does no harm. So a slice is repeated if its progress was not saved, as after a
kill, and of two processes that work on the same slice one saves it. Jobs that the repeated slice does not meet again,
or that the other process has changed, are then missing from the counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from jobq_core.errors import (
    ConfigurationError,
    JobNotFoundError,
    JobQueueError,
    StorageUnavailableError,
    UniqueKeyBusyError,
)
from jobq_core.ids import first_id_after, new_id
from jobq_core.job import check_name, check_priority
from jobq_core.reprs import short_repr
from jobq_core.states import JobState
from jobq_core.storage import Action, Change, JobFilter, Operation, OperationState, QueueStorage

SLICE: Final = 500
"""The number of jobs in one slice."""
LEFT_BEHIND_SECONDS: Final = 10.0
"""Seconds without progress after which another process goes on with an operation."""
FOLLOW_SECONDS: Final = 0.2
"""Interval between two reads of an operation that another process works on."""
END_SECONDS: Final = 5.0
"""Seconds that a slice has to end when the process is stopped."""


def check_value(action: Action, value: str | None) -> str | None:
    """Return the value of an action as it is stored; raises ConfigurationError for one that it cannot have."""
    if action is Action.RESCHEDULE:
        return _moment(value).isoformat()
    if action is Action.MOVE:
        return check_name(value, "queue")
    if action is Action.PRIORITY:
        try:
            return str(check_priority(int(str(value))))
        except ValueError as error:
            raise ConfigurationError(f"priority must be from -100 to 100, not {short_repr(value)}") from error
    if value is not None:
        raise ConfigurationError(f"{action} takes no value, not {short_repr(value)}")
    return None


def _moment(value: str | None) -> datetime:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ConfigurationError(f"a time must be in ISO 8601, not {short_repr(value)}") from None
    if moment.utcoffset() is None:
        raise ConfigurationError(f"the time {value} needs an offset, such as +00:00")
    return moment


async def apply(storage: QueueStorage, action: Action, value: str | None, ids: Sequence[UUID]) -> list[Change]:
    """Do an action to jobs, and return what it changed. value: as `check_value` returns it."""
    if action is Action.RESCHEDULE:
        return await storage.reschedule(ids, _moment(value))
    if action is Action.MOVE:
        return await storage.move(ids, str(value))
    if action is Action.PRIORITY:
        return await storage.set_priority(ids, int(str(value)))
    act = {
        Action.ABORT: storage.abort,
        Action.RETRY: storage.retry,
        Action.DISABLE: storage.disable,
        Action.ENABLE: storage.enable,
        Action.DELETE: storage.delete,
        Action.RUN_NOW: storage.run_now,
    }[action]
    return await act(ids)


async def start(
    storage: QueueStorage, action: Action, filter: JobFilter, *, value: str | None = None, actor: str
) -> Operation:
    """Count the jobs that match and store an operation for them; `work` does it.

    Jobs that are added from now on are left alone. Raises ConfigurationError for a value that the action cannot have.
    """
    value = check_value(action, value)
    now = await storage.now()
    operation = Operation(
        id=new_id((now - datetime.now(now.tzinfo)).total_seconds()),
        action=action,
        value=value,
        filter=filter,
        before=first_id_after(now),
        actor=actor,
        created_at=now,
        matched=await storage.count(filter),
    )
    await storage.add_operation(operation)
    return operation


async def work(storage: QueueStorage, operation: Operation, *, slice: int = SLICE) -> tuple[Operation, bool]:
    """Work off the next slice of an operation, if it is still RUNNING; return it as it is stored then, and whether the
    progress was saved: if not, another process works on it too.

    An operation that the storage cannot do becomes CANCELLED, with its `error`. Raises StorageUnavailableError if the
    storage cannot be reached; the slice is repeated by the next call. A cancelled call ends its slice first, for
    END_SECONDS at most, so that what it changed is counted.
    """
    task = asyncio.create_task(_work_slice(storage, operation.id, slice))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=END_SECONDS)
        task.cancel()
        raise


async def _work_slice(storage: QueueStorage, id: UUID, slice: int) -> tuple[Operation, bool]:
    # Read again: it may have been cancelled since, or another process has worked on it.
    operation = await get(storage, id)
    if operation.state is not OperationState.RUNNING:
        return operation, True
    try:
        worked = await _work_off(storage, operation, slice)
    except StorageUnavailableError:
        raise
    except JobQueueError as error:
        worked = replace(operation, state=OperationState.CANCELLED, error=f"{type(error).__name__}: {error}")
    saved = await storage.save_operation(worked, seen=operation.cursor)
    return await get(storage, id), saved


async def _work_off(storage: QueueStorage, operation: Operation, slice: int) -> Operation:
    """Do the next slice, and return the progress."""
    page = await storage.find(operation.filter, after=operation.cursor or operation.before, limit=slice)
    changed, refused = await _change(storage, operation, [job.id for job in page.jobs])
    over = page.cursor is None
    last = page.jobs[-1].id if page.jobs else operation.cursor
    return replace(
        operation,
        cursor=last if over else page.cursor,
        done=operation.done + len(page.jobs),
        changed=operation.changed + changed,
        refused=operation.refused + refused,
        state=OperationState.DONE if over else OperationState.RUNNING,
    )


async def _change(storage: QueueStorage, operation: Operation, ids: Sequence[UUID]) -> tuple[int, int]:
    """Change the jobs of a slice; return how many were changed, and how many refused."""
    if not ids:
        return 0, 0
    try:
        changes = await apply(storage, operation.action, operation.value, ids)
    except UniqueKeyBusyError:
        if len(ids) == 1:
            return 0, 1
        # An open transaction holds the key of one job: find out which, so that the others do not wait for it.
        half = len(ids) // 2
        parts = [await _change(storage, operation, part) for part in (ids[:half], ids[half:])]
        return sum(changed for changed, _ in parts), sum(refused for _, refused in parts)
    changed = sum(change.changed for change in changes)
    return changed, sum(_was_refused(operation.action, change) for change in changes)


async def work_to_end(
    storage: QueueStorage,
    operation: Operation,
    *,
    on_progress: Callable[[Operation], object] = lambda _: None,
    slice: int = SLICE,
) -> Operation:
    """Work off an operation until it is done or cancelled; on_progress is called after each slice.

    If another process works on it too, this one waits, and goes on when the other has left it behind.
    """
    while operation.state is OperationState.RUNNING:
        operation, is_saved = await work(storage, operation, slice=slice)
        on_progress(operation)
        while not is_saved and operation.state is OperationState.RUNNING and not await _left(storage, [operation]):
            await asyncio.sleep(FOLLOW_SECONDS)
            operation = await get(storage, operation.id)
            on_progress(operation)
    return operation


async def get(storage: QueueStorage, id: UUID) -> Operation:
    """Return an operation; raises JobNotFoundError if it does not exist."""
    found = await storage.operations([id])
    if not found:
        raise JobNotFoundError(f"no operation {id}")
    return found[0]


async def left_behind(storage: QueueStorage) -> list[Operation]:
    """Return the RUNNING operations that no process has worked on for LEFT_BEHIND_SECONDS, oldest first."""
    return await _left(storage, await storage.operations(running=True))


async def _left(storage: QueueStorage, operations: Sequence[Operation]) -> list[Operation]:
    """Return those of some operations that no process has worked on for LEFT_BEHIND_SECONDS."""
    if not operations:
        return []
    limit = await storage.now() - timedelta(seconds=LEFT_BEHIND_SECONDS)
    return [each for each in operations if (each.worked_at or each.created_at) < limit]


def _was_refused(action: Action, change: Change) -> bool:
    """Return whether a job that could be retried was not, since another job has its unique key."""
    return action is Action.RETRY and not change.changed and change.before in (JobState.FAILED, JobState.ABORTED)
