"""Bulk operations: `jobq_core.operations` works them off on each storage, and any process goes on with them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from jobq_core import operations
from jobq_core.errors import ConfigurationError, JobNotFoundError
from jobq_core.ids import new_id, new_ids
from jobq_core.job_audit import audit_of, operation_of
from jobq_core.records import WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import Action, Change, JobFilter, Operation, OperationState, QueueStorage
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import add_job, case, claim_one, job_in, new_job, read, register_worker, settle, state_of
from jobq_core.why import why

S = JobState


class BulkOperationsContract(ContractBase):
    """An operation is done to each job that matches, once, in slices."""

    async def _start(
        self, storage: QueueStorage, action: Action, *, value: str | None = None, **criteria: Any
    ) -> Operation:
        # The tests' ids are of this machine's time, which the storage's clock is not to be behind of.
        await self.advance(storage, 60)
        return await operations.start(storage, action, JobFilter(**criteria), value=value, actor="kai@web1")

    async def test_each_action_is_done_to_the_jobs_that_match(self, storage: QueueStorage, other: QueueStorage) -> None:
        worker = await register_worker(storage, lost_after=1e6)
        moment = await storage.now() + timedelta(days=1)
        cases: list[tuple[Action, str | None, JobState, JobState | None, dict[str, object]]] = [
            (Action.ABORT, None, S.SCHEDULED, S.ABORTED, {}),
            (Action.RETRY, None, S.FAILED, S.PENDING, {}),
            (Action.DISABLE, None, S.PENDING, S.DISABLED, {}),
            (Action.ENABLE, None, S.DISABLED, S.PENDING, {}),
            (Action.DELETE, None, S.COMPLETED, None, {}),
            (Action.RUN_NOW, None, S.SCHEDULED, S.PENDING, {}),
            (Action.RESCHEDULE, moment.isoformat(), S.SCHEDULED, S.SCHEDULED, {"run_at": moment}),
            (Action.MOVE, "b", S.SCHEDULED, S.SCHEDULED, {"queue": "b"}),
            (Action.PRIORITY, "-7", S.SCHEDULED, S.SCHEDULED, {"priority": -7}),
        ]
        assert [action for action, *_ in cases] == list(Action)
        for action, value, before, after, fields in cases:
            with case(action):
                jobs = [await job_in(storage, worker, before, queue=f"{action} {n}", tags=(action,)) for n in range(3)]
                others = [await job_in(storage, worker, before, queue=f"other {action}")]
                started = await self._start(storage, action, value=value, tags=(action,), states={before})
                assert (started.matched, started.state, started.actor) == (3, OperationState.RUNNING, "kai@web1")
                done = await operations.work_to_end(other, started, slice=2)
                assert (done.state, done.done, done.changed, done.refused) == (OperationState.DONE, 3, 3, 0)
                assert await operations.get(storage, started.id) == done
                for job in jobs:
                    assert await state_of(storage, job) is after
                    if after is not None:
                        record = await read(storage, job)
                        assert {name: getattr(record, name) for name in fields} == fields
                assert await state_of(storage, others[0]) is before

    async def test_an_operation_is_named_by_the_jobs_that_it_changed(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        moment = (await storage.now() + timedelta(days=1)).isoformat()
        for action, value in ((Action.ABORT, None), (Action.DISABLE, None), (Action.RESCHEDULE, moment)):
            with case(action):
                jobs = [await add_job(storage, queue=action) for _ in range(3)]
                by_hand = await add_job(storage, queue=action)
                await operations.apply(storage, action, value, [by_hand])
                started = await self._start(storage, action, value=value, queue=action)
                await operations.work_to_end(storage, started, slice=2)
                await self.advance(storage, 1)
                later = await add_job(storage, queue=action)
                await operations.apply(storage, action, value, [later])
                for job in jobs:
                    [entry] = await audit_of(other, await read(other, job))
                    assert (entry.actor, entry.action, operation_of(entry)) == ("kai@web1", action, str(started.id))
                    reason = await why(other, job)
                    assert "by kai@web1" in reason.sentence
                    assert str(started.id) in reason.sentence
                if action is not Action.RESCHEDULE:  # all have the moment that was asked for
                    for job in (by_hand, later):
                        assert await audit_of(other, await read(other, job)) == []

    async def test_progress_is_told_slice_by_slice(self, storage: QueueStorage) -> None:
        jobs = [new_job() for _ in range(7)]
        await storage.add(jobs)
        started = await self._start(storage, Action.DISABLE, queue="default")
        told: list[Operation] = []
        done = await operations.work_to_end(storage, started, on_progress=told.append, slice=3)
        assert [operation.done for operation in told] == [3, 6, 7]
        assert [operation.cursor for operation in told[:2]] == [jobs[4].id, jobs[1].id]
        assert told[-1] == done

    async def test_an_operation_without_jobs_is_done_at_once(self, storage: QueueStorage) -> None:
        started = await self._start(storage, Action.DELETE, queue="never")
        assert started.matched == 0
        done, _ = await operations.work(storage, started)
        assert (done.state, done.done) == (OperationState.DONE, 0)
        # Nothing is left to do.
        assert await operations.work_to_end(storage, done) == done

    async def test_jobs_that_are_added_later_are_left_alone(self, storage: QueueStorage) -> None:
        job = await add_job(storage)
        started = await self._start(storage, Action.ABORT)
        await self.advance(storage, 1)
        now = await storage.now()
        later = await add_job(storage, id=new_id((now - now.now(now.tzinfo)).total_seconds()))
        assert (await operations.work_to_end(storage, started)).done == 1
        assert [await state_of(storage, each) for each in (job, later)] == [S.ABORTED, S.PENDING]

    async def test_a_slice_whose_progress_was_lost_is_repeated_without_harm(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        jobs = [new_job(run_at=3600.0) for _ in range(5)]
        await storage.add(jobs)
        started = await self._start(storage, Action.PRIORITY, value="9", queue="default")
        first, _ = await operations.work(storage, started, slice=2)
        # A process was killed between the second slice and its progress.
        await operations.apply(storage, Action.PRIORITY, "9", [jobs[2].id, jobs[1].id])
        done = await operations.work_to_end(other, first, slice=2)
        assert (done.state, done.done) == (OperationState.DONE, 5)
        assert [(await read(storage, job.id)).priority for job in jobs] == [9] * 5

    async def test_two_processes_that_work_at_once_count_each_job_once(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        await storage.add([new_job() for _ in range(60)])
        started = await self._start(storage, Action.ABORT, queue="default")
        async with asyncio.timeout(30):
            one, two = await asyncio.gather(
                operations.work_to_end(storage, started, slice=7), operations.work_to_end(other, started, slice=7)
            )
        assert (one.state, two.state) == (OperationState.DONE, OperationState.DONE)
        assert (await operations.get(storage, started.id)).done == 60
        assert (await storage.counts("default"))["default"] == dict.fromkeys(S, 0) | {S.ABORTED: 60}

    async def test_a_cancelled_operation_stops_after_its_slice(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        await storage.add([new_job() for _ in range(6)])
        started = await self._start(storage, Action.DISABLE, queue="default")
        first, _ = await operations.work(storage, started, slice=2)
        assert await other.cancel_operation(started.id)
        # By a process that read it before: one that had others to work on first, or lost its connection meanwhile.
        for stale in (started, first):
            over = await operations.work_to_end(storage, stale, slice=2)
            assert (over.state, over.done, over.changed) == (OperationState.CANCELLED, 2, 2)
        assert (await storage.counts("default"))["default"][S.DISABLED] == 2

    async def test_a_process_that_is_stopped_counts_what_its_slice_changed(
        self, storage: QueueStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await storage.add([new_job() for _ in range(6)])
        started = await self._start(storage, Action.DISABLE, queue="default")
        is_changing, disable = asyncio.Event(), storage.disable

        async def disable_slowly(ids: Sequence[UUID]) -> list[Change]:
            is_changing.set()
            await asyncio.sleep(0)
            return await disable(ids)

        monkeypatch.setattr(storage, "disable", disable_slowly)
        working = asyncio.create_task(operations.work_to_end(storage, started, slice=2))
        await is_changing.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        left = await operations.get(storage, started.id)
        assert (left.state, left.done, left.changed) == (OperationState.RUNNING, 2, 2)
        assert (await storage.counts("default"))["default"][S.DISABLED] == 2

    async def test_an_operation_that_nobody_works_on_is_left_behind(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        await storage.add([new_job() for _ in range(3)])
        older = await self._start(storage, Action.DISABLE, queue="default")
        started = await self._start(storage, Action.DISABLE, queue="default")
        assert [operation.id for operation in await operations.left_behind(other)] == [older.id]
        await operations.work_to_end(storage, older)
        assert await operations.left_behind(other) == []
        await self.advance(storage, 9)
        started, _ = await operations.work(storage, started, slice=1)
        await self.advance(storage, operations.LEFT_BEHIND_SECONDS + 1)
        assert await operations.left_behind(other) == [started]
        await operations.work_to_end(storage, started)
        assert await operations.left_behind(other) == []

    async def test_jobs_that_cannot_be_retried_are_counted_as_refused(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        keyed = await add_job(storage, unique_key="k")
        await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL)
        free = await job_in(storage, worker, S.FAILED)
        await add_job(storage, unique_key="k")
        started = await self._start(storage, Action.RETRY, states={S.FAILED})
        done = await operations.work_to_end(storage, started)
        assert (done.done, done.changed, done.refused) == (2, 1, 1)
        assert [await state_of(storage, job) for job in (keyed, free)] == [S.FAILED, S.PENDING]

    async def test_the_jobs_of_a_search_are_worked_on(self, storage: QueueStorage) -> None:
        jobs = [new_job(arguments=b'{"n":%d}' % (n % 2)) for n in range(10)]
        await storage.add(jobs)
        started = await self._start(storage, Action.MOVE, value="b", argument=("n", 1))
        done = await operations.work_to_end(storage, started, slice=2)
        assert (started.matched, done.done, done.changed) == (5, 5, 5)
        assert [(await read(storage, job.id)).queue for job in jobs] == ["default", "b"] * 5

    async def test_jobs_of_a_moved_queue_are_worked_on_in_order_of_their_ids(self, storage: QueueStorage) -> None:
        # They are not met again in the queue that they went to, nor missed where they left.
        ids = new_ids(9)
        await storage.add([new_job(id=each, queue=("a", "b")[n % 2]) for n, each in enumerate(ids)])
        started = await self._start(storage, Action.MOVE, value="b", queue="a")
        assert (await operations.work_to_end(storage, started, slice=2)).changed == 5
        assert await self._in_queue(storage, "b") == ids[::-1]

    async def _in_queue(self, storage: QueueStorage, queue: str) -> Sequence[UUID]:
        return [job.id for job in (await storage.find(JobFilter(queue=queue))).jobs]

    async def test_values_that_cannot_work_are_refused_before_anything_is_stored(self, storage: QueueStorage) -> None:
        for action, value, message in (
            (Action.MOVE, "", "queue"),
            (Action.MOVE, None, "queue"),
            (Action.PRIORITY, "101", "priority"),
            (Action.PRIORITY, "high", "priority"),
            (Action.PRIORITY, None, "priority"),
            (Action.RESCHEDULE, "tomorrow", "ISO 8601"),
            (Action.RESCHEDULE, "2026-12-01T08:00:00", "offset"),
            (Action.RESCHEDULE, None, "ISO 8601"),
            (Action.ABORT, "now", "takes no value"),
        ):
            with case(f"{action} {value}"), pytest.raises(ConfigurationError, match=message):
                await operations.start(storage, action, JobFilter(), value=value, actor="kai")
        assert await storage.operations() == []
        with pytest.raises(JobNotFoundError):
            await operations.get(storage, new_id())
