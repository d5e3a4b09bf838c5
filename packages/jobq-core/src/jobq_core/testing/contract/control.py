"""Control: abort, disable, enable, retry, delete and clear, in each of the eight states."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from jobq_core.ids import new_id
from jobq_core.records import WorkerInfo
from jobq_core.states import FINISHED, Ending, JobState, StopRequest
from jobq_core.storage import Change, JobFilter, LeaseStatus, QueueStorage
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import (
    ERROR,
    add_job,
    case,
    claim,
    claim_one,
    job_in,
    new_job,
    read,
    register_worker,
    settle,
    state_of,
)

S = JobState
BATCH_OPERATIONS = ("abort", "disable", "enable", "retry", "delete")


class ControlContract(ContractBase):
    """An operator's change happens at once, or is requested from the worker that runs the job."""

    async def _check(
        self,
        storage: QueueStorage,
        other: QueueStorage,
        worker: WorkerInfo,
        operation: str,
        after: Callable[[JobState], JobState | None],
        asks: StopRequest | None = None,
    ) -> dict[JobState, UUID]:
        """Check what an operation does to a job in each state, and return the jobs."""
        jobs: dict[JobState, UUID] = {}
        for state in JobState:
            with case(state):
                job = jobs[state] = await job_in(storage, worker, state, queue=state.value, run_id=state.value)
                asked = asks if state is S.PROCESSING else None
                expected = Change(job, state, after(state), asked=asked is not None)
                before = await read(storage, job)
                assert await getattr(other, operation)([job]) == [expected]
                assert await state_of(storage, job) is expected.after
                if expected.asked:
                    assert (await read(storage, job)).stop_request is asked
                elif not expected.changed:
                    assert await read(storage, job) == before
        return jobs

    # abort

    async def test_abort_in_each_state(self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo) -> None:
        before = await storage.now()
        jobs = await self._check(
            storage,
            other,
            worker,
            "abort",
            lambda state: state if state is S.PROCESSING or state in FINISHED else S.ABORTED,
            asks=StopRequest.ABORT,
        )
        now = await storage.now()
        for state, job in jobs.items():
            record = await read(storage, job)
            assert record.aborting is (state is S.PROCESSING)
            if state is not S.PROCESSING:
                assert record.finished_at is not None
                assert before <= record.finished_at <= now

    async def test_a_job_aborted_before_its_start_never_runs(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        # BLOCKED first: that job is claimed on the way, and no other job may be PENDING then.
        states = (S.BLOCKED, S.SCHEDULED, S.DISABLED, S.PENDING)
        jobs = [await job_in(storage, worker, state) for state in states]
        await storage.abort(jobs)
        await self.advance(storage, 3601)
        await storage.register(worker)
        assert (await storage.promote()).promoted == 0
        assert await claim(storage, worker) == []
        assert [await state_of(storage, job) for job in jobs] == [S.ABORTED] * 4

    @pytest.mark.parametrize("ending", [Ending.ABORT, Ending.RETRY, Ending.RELEASE, Ending.FAIL])
    async def test_a_request_to_abort_does_not_survive_a_retry(
        self, storage: QueueStorage, worker: WorkerInfo, ending: Ending
    ) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        await storage.abort([job])
        assert await settle(storage, worker, claimed, ending, error=ERROR) in (S.ABORTED, S.FAILED)
        await storage.retry([job])
        again = await claim_one(storage, worker)
        assert again.id == job
        assert await storage.check_leases(worker.id, [(job, again.lease)]) == [LeaseStatus(True)]
        assert await settle(storage, worker, again, Ending.RETRY) is S.PENDING

    async def test_a_request_to_abort_can_be_repeated(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await job_in(storage, worker, S.PROCESSING)
        for _ in range(2):
            assert await storage.abort([job]) == [Change(job, S.PROCESSING, S.PROCESSING, asked=True)]

    @pytest.mark.parametrize("order", [("abort", "disable"), ("disable", "abort")], ids=" then ".join)
    async def test_an_abort_wins_over_a_disable_in_either_order(
        self, storage: QueueStorage, worker: WorkerInfo, order: tuple[str, str]
    ) -> None:
        # As for a job that does not run: a disabled job can be aborted, an aborted job cannot be disabled.
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        for operation in order:
            await getattr(storage, operation)([job])
        assert await storage.check_leases(worker.id, [(job, claimed.lease)]) == [LeaseStatus(True, StopRequest.ABORT)]
        assert await settle(storage, worker, claimed, Ending.RETRY) is S.ABORTED

    async def test_abort_run_aborts_the_unfinished_jobs_of_that_run_only(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        mine = {state: await job_in(storage, worker, state, run_id="mine") for state in FINISHED}
        mine[S.PROCESSING] = await job_in(storage, worker, S.PROCESSING, run_id="mine")
        for state in (S.SCHEDULED, S.BLOCKED, S.DISABLED, S.PENDING):
            mine[state] = await job_in(storage, worker, state, run_id="mine", queue="another")
        untouched = [await add_job(storage, run_id=run_id) for run_id in ("mine too", None)]
        before = await storage.get([*untouched, *(mine[state] for state in FINISHED)])
        changes = await other.abort_run("mine")
        assert {change.id: (change.before, change.after, change.asked) for change in changes} == {
            mine[S.PROCESSING]: (S.PROCESSING, S.PROCESSING, True),
            **{mine[state]: (state, S.ABORTED, False) for state in (S.SCHEDULED, S.BLOCKED, S.DISABLED, S.PENDING)},
        }
        assert len(changes) == 5
        assert await storage.get([*untouched, *(mine[state] for state in FINISHED)]) == before
        assert (await read(storage, mine[S.PROCESSING])).aborting
        assert await storage.abort_run("never seen") == []

    # disable and enable

    async def test_disable_in_each_state(self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo) -> None:
        jobs = await self._check(
            storage,
            other,
            worker,
            "disable",
            lambda state: state if state is S.PROCESSING or state in FINISHED else S.DISABLED,
            asks=StopRequest.DISABLE,
        )
        assert not (await read(storage, jobs[S.PROCESSING])).aborting

    async def test_enable_in_each_state(self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo) -> None:
        await self._check(storage, other, worker, "enable", lambda state: S.PENDING if state is S.DISABLED else state)

    async def test_a_disabled_job_is_not_run_until_it_is_enabled(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        await storage.disable([job])
        assert await claim(storage, worker) == []
        await storage.enable([job])
        assert (await claim_one(storage, worker)).id == job

    @pytest.mark.parametrize("ending", [Ending.DISABLE, Ending.FAIL, Ending.RETRY, Ending.RELEASE])
    async def test_a_job_disabled_while_it_ran_ends_disabled(
        self, storage: QueueStorage, worker: WorkerInfo, ending: Ending
    ) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        await storage.disable([job])
        assert await settle(storage, worker, claimed, ending, error=ERROR) is S.DISABLED
        assert await claim(storage, worker) == []
        await storage.enable([job])
        again = await claim_one(storage, worker)
        assert await storage.check_leases(worker.id, [(job, again.lease)]) == [LeaseStatus(True)]

    async def test_an_enabled_job_whose_time_lies_ahead_waits_for_it(self, storage: QueueStorage) -> None:
        job = await add_job(storage, run_at=600.0)
        run_at = (await read(storage, job)).run_at
        await storage.disable([job])
        assert await storage.enable([job]) == [Change(job, S.DISABLED, S.SCHEDULED)]
        assert (await read(storage, job)).run_at == run_at
        assert (await storage.promote()).promoted == 0
        await self.advance(storage, 601)
        assert (await storage.promote()).promoted == 1
        assert await state_of(storage, job) is S.PENDING

    async def test_a_job_whose_time_came_while_it_was_disabled_is_pending_when_enabled(
        self, storage: QueueStorage
    ) -> None:
        job = await add_job(storage, run_at=600.0)
        await storage.disable([job])
        await self.advance(storage, 601)
        assert (await storage.promote()).promoted == 0
        assert await storage.enable([job]) == [Change(job, S.DISABLED, S.PENDING)]

    async def test_enable_withdraws_a_request_to_disable(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        await storage.disable([job])
        nothing = Change(job, S.PROCESSING, S.PROCESSING)
        assert await storage.enable([job, job]) == [Change(job, S.PROCESSING, S.PROCESSING, asked=True), nothing]
        assert await storage.enable([job]) == [nothing]
        assert await storage.check_leases(worker.id, [(job, claimed.lease)]) == [LeaseStatus(True)]
        assert await settle(storage, worker, claimed, Ending.RETRY) is S.PENDING

    async def test_enable_does_not_withdraw_a_request_to_abort(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        await storage.abort([job])
        assert await storage.enable([job]) == [Change(job, S.PROCESSING, S.PROCESSING)]
        assert await storage.check_leases(worker.id, [(job, claimed.lease)]) == [LeaseStatus(True, StopRequest.ABORT)]

    # retry

    async def test_retry_in_each_state(self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo) -> None:
        await self._check(
            storage, other, worker, "retry", lambda state: S.PENDING if state in (S.FAILED, S.ABORTED) else state
        )

    async def test_a_retried_job_has_all_attempts_again_and_keeps_its_history(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage, max_attempts=2)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RETRY, error=ERROR)
        await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
        history = (await read(storage, job)).attempts
        await storage.retry([job])
        record = await read(storage, job)
        assert (record.state, record.attempt, record.attempts) == (S.PENDING, 0, history)
        assert (record.finished_at, record.error, record.finished) == (None, None, False)
        claimed = await claim_one(storage, worker)
        assert (claimed.attempt, claimed.max_attempts) == (1, 2)
        await settle(storage, worker, claimed, Ending.FAIL, error=ERROR)
        record = await read(storage, job)
        assert record.attempts[:2] == history
        assert [attempt.number for attempt in record.attempts] == [1, 2, 1]

    async def test_a_retried_job_can_complete(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await job_in(storage, worker, S.FAILED)
        await storage.retry([job])
        await settle(storage, worker, await claim_one(storage, worker), result=b"7")
        record = await read(storage, job)
        assert (record.state, record.result, record.error) == (S.COMPLETED, 7, None)
        assert len(record.attempts) == 1

    async def test_retries_at_once_put_a_job_back_once(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for _ in range(8):
            job = await job_in(storage, worker, S.FAILED)
            answers = await asyncio.gather(*((storage, other)[n % 2].retry([job]) for n in range(6)))
            assert sorted(change.changed for [change] in answers) == [False] * 5 + [True]
            assert len(await claim(storage, worker)) == 1

    # delete and clear

    async def test_delete_in_each_state(self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo) -> None:
        keep = await add_job(storage)
        kept = await read(storage, keep)
        jobs = await self._check(storage, other, worker, "delete", lambda state: None)
        assert await storage.get([*jobs.values(), keep]) == [*[None] * 8, kept]
        assert await storage.get_status([*jobs.values()]) == [None] * 8
        assert [record.id for record in (await storage.find(JobFilter())).jobs] == [keep]
        assert set(await storage.counts()) == {"default"}
        for state, job in jobs.items():
            assert (await storage.counts(state.value))[state.value] == dict.fromkeys(S, 0)
            assert await storage.abort_run(state.value) == []
            assert await storage.delete([job]) == [Change(job, None, None)]

    async def test_deleting_removes_the_history(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await job_in(storage, worker, S.FAILED)
        await storage.delete([job])
        await add_job(storage, id=job)
        assert (await read(storage, job)).attempts == ()

    async def test_the_lease_of_a_deleted_running_job_is_over(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await job_in(storage, worker, S.PROCESSING)
        job = await job_in(storage, worker, S.PROCESSING)
        await storage.delete([job])
        assert [each.id == job for each in await storage.recover_claims(worker.id, [])] == [False]
        await self.advance(storage, worker.lost_after + 1)
        [lost] = (await storage.rescue()).workers
        assert job not in [each.id for each in lost.jobs]
        assert len(lost.jobs) == 1

    async def test_clear_removes_the_jobs_of_one_queue_in_every_state(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        states = [state for state in JobState if state is not S.PENDING] + [S.PENDING]
        jobs = [await job_in(storage, worker, state) for state in states]
        keep = [await job_in(storage, worker, state, queue="another") for state in states]
        kept = await storage.get(keep)
        assert await other.clear("default") == 8
        assert await storage.get(jobs) == [None] * 8
        assert await storage.get(keep) == kept
        assert (await storage.counts("default"))["default"] == dict.fromkeys(S, 0)
        assert await storage.clear("default") == 0
        assert await storage.clear("never seen") == 0
        assert {job.id for job in await storage.recover_claims(worker.id, [])} == {keep[states.index(S.PROCESSING)]}
        assert await claim(storage, worker) == []

    async def test_clearing_while_jobs_are_added_claimed_and_settled_leaves_no_remains(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        second = await register_worker(other)
        for _ in range(10):
            await storage.add([new_job() for _ in range(10)])
            held = await claim(storage, worker, 5)
            _, _, late, settled = await asyncio.gather(
                other.clear("default"),
                storage.add([new_job(unique_key="k")]),
                claim(other, second, 5),
                asyncio.gather(*(settle(storage, worker, job, Ending.RETRY, when=60.0) for job in held)),
            )
            assert set(settled) <= {None, S.SCHEDULED}
            await storage.clear("default")
            for who, leases in ((worker, held), (second, late)):
                statuses = await storage.check_leases(who.id, [(job.id, job.lease) for job in leases])
                assert not any(status.held for status in statuses)
                assert await storage.recover_claims(who.id, []) == []
            assert (await storage.counts("default"))["default"] == dict.fromkeys(S, 0)

    # Batches

    async def test_an_unknown_job_is_answered_with_none(self, storage: QueueStorage) -> None:
        for operation in BATCH_OPERATIONS:
            stranger = new_id()
            [change] = await getattr(storage, operation)([stranger])
            assert (change, change.changed) == (Change(stranger, None, None), False)
            assert await getattr(storage, operation)([]) == []

    @pytest.mark.parametrize("operation", BATCH_OPERATIONS)
    async def test_a_batch_of_control_is_answered_in_its_order(
        self, storage: QueueStorage, worker: WorkerInfo, operation: str
    ) -> None:
        states = [state for state in JobState if state is not S.PENDING] + [S.PENDING]
        jobs = {await job_in(storage, worker, state): state for state in states}
        stranger = new_id()
        asked = sorted([*jobs, stranger], key=lambda job: job.bytes[::-1])
        changes = await getattr(storage, operation)(asked)
        assert [change.id for change in changes] == asked
        assert [change.before for change in changes] == [jobs.get(job) for job in asked]

    async def test_a_batch_of_control_may_be_large(self, storage: QueueStorage) -> None:
        jobs = [new_job() for _ in range(1_200)]
        await storage.add(jobs)
        for operation in ("disable", "enable", "abort", "retry", "delete"):
            with case(operation):
                changes = await getattr(storage, operation)([job.id for job in jobs])
                assert [change.id for change in changes] == [job.id for job in jobs]
                assert all(change.changed for change in changes)

    async def test_a_job_named_twice_in_a_batch_is_answered_twice(self, storage: QueueStorage) -> None:
        job = await add_job(storage)
        for operation, after in (
            ("disable", S.DISABLED),
            ("enable", S.PENDING),
            ("abort", S.ABORTED),
            ("retry", S.PENDING),
            ("delete", None),
        ):
            with case(operation):
                changes = await getattr(storage, operation)([job, job])
                assert [(change.id, change.after) for change in changes] == [(job, after)] * 2
                assert await state_of(storage, job) is after

    # Races: the outcome is the same in either order

    async def test_an_abort_at_the_same_time_as_a_completion_does_not_overwrite_it(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for turn in range(20):
            job = await add_job(storage)
            claimed = await claim_one(storage, worker)
            both: list[Any] = [settle(storage, worker, claimed, result=b"1"), other.abort([job])]
            # The two start first in turn.
            answers = await asyncio.gather(*(both if turn % 2 else reversed(both)))
            state, [change] = answers if turn % 2 else reversed(answers)
            assert state is S.COMPLETED
            assert change in (
                Change(job, S.PROCESSING, S.PROCESSING, asked=True),
                Change(job, S.COMPLETED, S.COMPLETED),
            )
            assert (await read(storage, job)).result == 1

    @pytest.mark.parametrize("move", ["claim", "retry at once", "retry later", "release", "promote", "enable"])
    async def test_an_abort_does_not_miss_a_job_that_moves_meanwhile(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo, move: str
    ) -> None:
        for turn in range(20):
            job = await add_job(storage, run_at=50.0 if move == "promote" else None)
            moving: Awaitable[Any]
            if move in ("retry at once", "retry later", "release"):
                claimed = await claim_one(storage, worker)
                ending = Ending.RELEASE if move == "release" else Ending.RETRY
                moving = settle(storage, worker, claimed, ending, when=60.0 if move == "retry later" else None)
            elif move == "promote":
                await self.advance(storage, 51)
                await storage.register(worker)
                moving = storage.promote()
            elif move == "enable":
                await storage.disable([job])
                moving = storage.enable([job])
            else:
                moving = claim(storage, worker, 1)
            both: list[Any] = [moving, other.abort([job])]
            await asyncio.gather(*(both if turn % 2 else reversed(both)))
            record = await read(storage, job)
            assert record.state is S.ABORTED or record.aborting
            for claimed in await storage.recover_claims(worker.id, []):
                assert await settle(storage, worker, claimed, Ending.RETRY) is S.ABORTED
            assert await claim(storage, worker) == []

    async def test_a_disable_does_not_miss_a_job_that_is_claimed_meanwhile(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        for turn in range(20):
            job = await add_job(storage)
            both: list[Any] = [claim(storage, worker, 1), other.disable([job])]
            await asyncio.gather(*(both if turn % 2 else reversed(both)))
            for claimed in await storage.recover_claims(worker.id, []):
                assert await settle(storage, worker, claimed, Ending.RETRY) is S.DISABLED
            assert await state_of(storage, job) is S.DISABLED
