"""Operations in a transaction of the application's, over each connection that a storage takes as `connection=`."""

from __future__ import annotations

from functools import partial

import pytest

from jobq_core.errors import LeaseLostError
from jobq_core.records import Progress
from jobq_core.states import Ending, JobState
from jobq_core.storage import FINISHED_TOPIC, QueueStorage, Settlement, queue_topic
from jobq_core.testing.callers import Caller
from jobq_core.testing.helpers import (
    ERROR,
    add_job,
    claim_one,
    new_job,
    register_worker,
    settle,
    start_one,
    state_of,
)

TOPIC = queue_topic("default")


@pytest.mark.asyncio
class CallersContract:
    """A storage's test class has fixtures `storage`: an open, migrated, empty storage; and `caller`, with parameters.

    caller: each `Caller` that the storage accepts, connected to its database.
    """

    async def test_jobs_exist_once_the_transaction_commits(self, storage: QueueStorage, caller: Caller) -> None:
        worker = await register_worker(storage)
        job, twin = new_job(unique_key="k", tags=("a", 'b"\\,'), run_id="ru'n %s"), new_job(unique_key="k")
        await caller.ask("begin")
        async with storage.subscribe([TOPIC]) as subscription:
            first, second = await caller.call(storage.add, [job, twin])
            assert (first.id, first.created, second.id, second.created) == (job.id, True, job.id, False)
            (inside,) = await caller.call(storage.get, [job.id])
            assert await storage.get([job.id]) == [None]
            assert await subscription.wait(0) == frozenset()
            await caller.ask("commit")
            assert await subscription.wait(20) == {TOPIC}
        assert await storage.get([job.id, twin.id]) == [inside, None]
        assert inside is not None
        assert (inside.tags, inside.run_id, inside.arguments_json) == (job.tags, job.run_id, job.arguments)
        assert (await claim_one(storage, worker)).id == job.id

    async def test_jobs_of_a_transaction_that_is_rolled_back_never_existed(
        self, storage: QueueStorage, caller: Caller
    ) -> None:
        job, later = new_job(unique_key="k"), new_job(run_at=60.0, timeout=1.5, fingerprint=b"\\'\0%")
        await caller.ask("begin")
        await caller.call(storage.add, [job, later])
        await caller.ask("rollback")
        assert await storage.get([job.id, later.id]) == [None, None]
        assert (await storage.add([new_job(unique_key="k")]))[0].created

    async def test_a_savepoint_that_is_rolled_back_takes_its_jobs_along(
        self, storage: QueueStorage, caller: Caller
    ) -> None:
        outer, undone, kept = new_job(unique_key="k"), new_job(unique_key="l"), new_job(unique_key="l")
        await caller.ask("begin")
        await caller.call(storage.add, [outer])
        await caller.ask("nest")
        await caller.call(storage.add, [undone])
        await caller.ask("end_nested", False)
        await caller.ask("nest")
        assert (await caller.call(storage.add, [kept]))[0].created
        await caller.ask("end_nested", True)
        await caller.ask("commit")
        states = [await state_of(storage, job.id) for job in (outer, undone, kept)]
        assert states == [JobState.PENDING, None, JobState.PENDING]

    async def test_nested_savepoints_keep_the_jobs_that_none_around_them_rolls_back(
        self, storage: QueueStorage, caller: Caller
    ) -> None:
        first, second, third, fourth = (new_job() for _ in range(4))
        await caller.ask("begin")
        await caller.ask("nest")
        await caller.call(storage.add, [first])
        await caller.ask("nest")
        await caller.call(storage.add, [second])
        await caller.ask("end_nested", True)
        await caller.ask("end_nested", False)
        await caller.ask("nest")
        await caller.call(storage.add, [third])
        await caller.ask("nest")
        await caller.call(storage.add, [fourth])
        await caller.ask("end_nested", False)
        await caller.ask("end_nested", True)
        await caller.ask("commit")
        states = [await state_of(storage, job.id) for job in (first, second, third, fourth)]
        assert states == [None, None, JobState.PENDING, None]

    async def test_jobs_are_aborted_and_retried_when_the_transaction_commits(
        self, storage: QueueStorage, caller: Caller
    ) -> None:
        job = await add_job(storage, unique_key="k")
        await caller.ask("begin")
        await caller.call(storage.abort, [job])
        await caller.ask("rollback")
        assert await state_of(storage, job) is JobState.PENDING
        await caller.ask("begin")
        (change,) = await caller.call(storage.abort, [job])
        assert (change.before, change.after) == (JobState.PENDING, JobState.ABORTED)
        (change,) = await caller.call(storage.retry, [job])
        assert (change.before, change.after) == (JobState.ABORTED, JobState.PENDING)
        (change,) = await caller.call(storage.abort, [job])
        assert await state_of(storage, job) is JobState.PENDING
        await caller.ask("commit")
        assert await state_of(storage, job) is JobState.ABORTED
        assert (await storage.counts("default"))["default"][JobState.ABORTED] == 1

    async def test_a_run_completes_with_its_jobs_when_its_handler_commits(
        self, storage: QueueStorage, caller: Caller
    ) -> None:
        worker = await register_worker(storage, queues=("default",))
        job = await add_job(storage)
        run = await start_one(storage, worker)
        child = new_job(unique_key="k", queue="children")
        settlement = Settlement(job, run.lease, Ending.COMPLETE, b"7", progress=Progress(percent=50.0), jobs=(child,))
        complete = partial(storage.complete, settlement)
        await caller.ask("begin")
        await caller.call(complete)
        assert await state_of(storage, job) is JobState.PROCESSING
        await caller.ask("rollback")
        assert await state_of(storage, job) is JobState.PROCESSING
        await caller.ask("begin")
        async with storage.subscribe([FINISHED_TOPIC]) as subscription:
            await caller.call(complete)
            assert await state_of(storage, job) is JobState.PROCESSING
            await caller.ask("commit")
            assert await subscription.wait(20) == {FINISHED_TOPIC}
        record, added = await storage.get([job, child.id])
        assert record is not None
        assert added is not None
        assert (record.state, record.result_json, record.progress.percent) == (JobState.COMPLETED, b"7", 50.0)
        assert await settle(storage, worker, run, Ending.RETRY, error=ERROR) is JobState.COMPLETED
        await caller.ask("begin")
        with pytest.raises(LeaseLostError):
            await caller.call(complete)
        await caller.ask("rollback")
