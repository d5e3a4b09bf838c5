"""What a bulk operation does when the storage fails; the conformance suite tests the rest on each storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from jobq_core import operations
from jobq_core.errors import ConfigurationError, StorageError, StorageUnavailableError, UniqueKeyBusyError
from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.states import JobState
from jobq_core.storage import Action, Change, JobFilter, Operation, OperationState, decode_filter
from jobq_core.testing import ManualClock, add_job, state_of


class Failing(MemoryQueueStorage):
    """Memory storage whose `retry` cannot take some jobs, and whose `move` fails."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.busy: set[UUID] = set()
        self.retries: list[int] = []
        self.error: Exception | None = None

    async def retry(self, ids: Sequence[UUID], *, connection: Any = None) -> list[Change]:
        self.retries.append(len(ids))
        if self.busy & set(ids):
            raise UniqueKeyBusyError("an open transaction holds the key")
        return await super().retry(ids)

    async def move(self, ids: Sequence[UUID], queue: str) -> list[Change]:
        if self.error is not None:
            raise self.error
        return await super().move(ids, queue)


@pytest.fixture
async def storage() -> AsyncIterator[Failing]:
    # The clock is ahead of the ids, which are of this machine's time.
    clock = ManualClock()
    clock.advance(60)
    async with Failing(clock=clock) as storage:
        yield storage


async def start(storage: Failing, action: Action, value: str | None = None) -> Operation:
    return await operations.start(storage, action, JobFilter(), value=value, actor="kai")


async def test_a_key_that_a_transaction_holds_refuses_its_job_and_no_other(storage: Failing) -> None:
    jobs = [await add_job(storage) for _ in range(16)]
    await storage.abort(jobs)
    storage.busy = {jobs[3], jobs[11]}
    done = await operations.work_to_end(storage, await start(storage, Action.RETRY))
    assert (done.state, done.done, done.changed, done.refused) == (OperationState.DONE, 16, 14, 2)
    for job in jobs:
        expected = JobState.ABORTED if job in storage.busy else JobState.PENDING
        assert await state_of(storage, job) is expected


async def test_an_operation_that_the_storage_cannot_do_ends_with_its_error(storage: Failing) -> None:
    await add_job(storage)
    storage.error = ConfigurationError("this storage has no move(); use one of jobq's own storages")
    over = await operations.work_to_end(storage, await start(storage, Action.MOVE, "b"))
    assert over.state is OperationState.CANCELLED
    assert over.error == "ConfigurationError: this storage has no move(); use one of jobq's own storages"
    assert over.finished_at is not None
    assert await operations.left_behind(storage) == []


async def test_an_outage_leaves_the_operation_to_go_on_with(storage: Failing) -> None:
    job = await add_job(storage)
    started = await start(storage, Action.MOVE, "b")
    storage.error = StorageUnavailableError("the line is cut")
    with pytest.raises(StorageUnavailableError):
        await operations.work(storage, started)
    assert await operations.get(storage, started.id) == started
    storage.error = None
    done = await operations.work_to_end(storage, started)
    assert (done.state, done.changed, done.error) == (OperationState.DONE, 1, None)
    [record] = await storage.get([job])
    assert record is not None
    assert record.queue == "b"


@pytest.mark.parametrize(
    ("action", "value", "kept"),
    [
        (Action.MOVE, "b", "b"),
        (Action.PRIORITY, "007", "7"),
        (Action.RESCHEDULE, "2026-12-01 08:00+01:00", "2026-12-01T08:00:00+01:00"),
        (Action.ABORT, None, None),
    ],
)
def test_values_are_kept_in_one_form(action: Action, value: str | None, kept: str | None) -> None:
    assert operations.check_value(action, value) == kept
    if action is Action.RESCHEDULE:
        assert kept is not None
        assert datetime.fromisoformat(kept).utcoffset() is not None


def test_a_filter_with_a_condition_of_a_later_version_is_refused_as_it_would_match_more_jobs() -> None:
    wanted = JobFilter(queue="mail", states=[JobState.FAILED], argument=("n", 1))
    stored = msgspec.json.encode(wanted)
    assert decode_filter(stored, new_id()) == decode_filter(stored.decode(), new_id()) == wanted
    for data, problem in (
        (stored[:-1] + b',"size_above":9}', "unknown conditions: size_above"),
        (b'{"states":["asleep"]}', "asleep"),
        (b"[]", "array"),
    ):
        operation = new_id()
        with pytest.raises(StorageError, match=rf"{operation} is not one .*{problem}.*upgrade jobq-core"):
            decode_filter(data, operation)
