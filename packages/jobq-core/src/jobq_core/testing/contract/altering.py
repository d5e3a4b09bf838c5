"""Altering: the time, the queue and the priority of jobs that wait, in each of the eight states."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from jobq_core.ids import new_id
from jobq_core.records import JobRecord, WorkerInfo
from jobq_core.states import WAITING, Ending, JobState
from jobq_core.storage import (
    UNKNOWN_KIND,
    WAITING_TOPIC,
    Change,
    Claim,
    JobFilter,
    QueueOptions,
    QueueStorage,
    Settlement,
    blocked_topic,
    queue_topic,
)
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.contract.notifications import notified, silence
from jobq_core.testing.helpers import (
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
LONG_AGO = datetime(2001, 2, 3, tzinfo=UTC)
UNCLAIMED = WAITING | {S.PENDING}

Operation = Callable[[QueueStorage, UUID], Awaitable[list[Change]]]
Expected = Callable[[JobState], JobState | None]
"""The state after an operation, by the state before; None where the job is not changed."""


async def _run_now(storage: QueueStorage, job: UUID) -> list[Change]:
    return await storage.run_now([job])


async def _reschedule_later(storage: QueueStorage, job: UUID) -> list[Change]:
    return await storage.reschedule([job], await storage.now() + timedelta(hours=2))


async def _reschedule_to_the_past(storage: QueueStorage, job: UUID) -> list[Change]:
    return await storage.reschedule([job], await storage.now() - timedelta(hours=2))


async def _move(storage: QueueStorage, job: UUID) -> list[Change]:
    return await storage.move([job], "another")


async def _set_priority(storage: QueueStorage, job: UUID) -> list[Change]:
    return await storage.set_priority([job], -7)


def _same_if_unclaimed(state: JobState) -> JobState | None:
    return state if state in UNCLAIMED else None


OPERATIONS: list[tuple[Operation, Expected, dict[str, Any]]] = [
    (_run_now, lambda state: S.PENDING if state in (S.SCHEDULED, S.BLOCKED) else None, {}),
    (
        _reschedule_later,
        lambda state: {S.SCHEDULED: S.SCHEDULED, S.PENDING: S.SCHEDULED, S.DISABLED: S.DISABLED}.get(state),
        {},
    ),
    (
        _reschedule_to_the_past,
        lambda state: {S.SCHEDULED: S.PENDING, S.BLOCKED: S.PENDING, S.DISABLED: S.DISABLED}.get(state),
        {},
    ),
    (_move, _same_if_unclaimed, {"queue": "another"}),
    (_set_priority, _same_if_unclaimed, {"priority": -7}),
]
"""Each operation, the states that it leads to, and the fields of the record that it sets."""


class AlteringContract(ContractBase):
    """`run_now`, `reschedule`, `move` and `set_priority` change what a job waits for, and nothing else of it."""

    @pytest.mark.parametrize(
        ("operation", "expected", "fields"), OPERATIONS, ids=["run now", "later", "to the past", "move", "priority"]
    )
    async def test_jobs_are_altered_in_each_state(
        self,
        storage: QueueStorage,
        other: QueueStorage,
        worker: WorkerInfo,
        operation: Operation,
        expected: Expected,
        fields: dict[str, Any],
    ) -> None:
        for state in JobState:
            with case(state):
                job = await job_in(storage, worker, state, queue=state.value, tags=("t",), run_id="r")
                before = await read(storage, job)
                await self.advance(storage, 1)
                after = expected(state)
                assert await operation(other, job) == [Change(job, state, after or state, altered=after is not None)]
                record = await read(storage, job)
                if after is None:
                    assert record == before
                    continue
                # The time in a state goes on where the state stays.
                assert (record.since == before.since) is (after is state)
                assert _fixed(record) == _fixed(msgspec.structs.replace(before, state=after, **fields))

    async def test_answers_are_in_order_and_name_unknown_jobs(self, storage: QueueStorage) -> None:
        one, two, unknown = await add_job(storage), await add_job(storage, priority=3), new_id()
        assert await storage.set_priority([two, unknown, one], 3) == [
            Change(two, S.PENDING, S.PENDING),
            Change(unknown, None, None),
            Change(one, S.PENDING, S.PENDING, altered=True),
        ]
        for operation in (storage.run_now([unknown]), storage.move([unknown], "b")):
            assert await operation == [Change(unknown, None, None)]
        assert await storage.reschedule([unknown], await storage.now()) == [Change(unknown, None, None)]
        assert await storage.run_now([]) == await storage.move([], "b") == await storage.set_priority([], 1) == []

    async def test_more_than_a_thousand_jobs_can_be_altered_at_once(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = [new_job() for _ in range(1_200)]
        await storage.add(jobs)
        ids = [job.id for job in jobs]
        for changes in (
            await storage.reschedule(ids, await storage.now() + timedelta(hours=1)),
            await storage.move(ids, "b"),
            await storage.set_priority(ids, 5),
            await storage.run_now(ids),
        ):
            assert [change.id for change in changes] == ids
            assert all(change.altered for change in changes)
        assert len(await claim(storage, worker, 2_000, "b")) == 1_200

    # run_now

    async def test_a_job_that_was_run_now_goes_to_the_end_of_the_line(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        later = await add_job(storage, run_at=3600.0)
        first = await add_job(storage)
        await storage.run_now([later])
        assert [job.id for job in await claim(storage, worker)] == [first, later]
        await self.advance(storage, 3601)
        assert (await storage.promote()).promoted == 0

    async def test_run_now_does_not_come_back_as_a_delay(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage, run_at=3600.0)
        await storage.run_now([job])
        await storage.disable([job])
        assert await storage.enable([job]) == [Change(job, S.DISABLED, S.PENDING)]

    async def test_the_backoff_of_a_retry_is_cut_short_and_its_attempts_stay(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RETRY, when=600.0)
        await storage.run_now([job])
        claimed = await claim_one(storage, worker)
        assert (claimed.id, claimed.attempt) == (job, 2)

    async def test_a_gated_job_that_is_run_now_waits_at_its_gate(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage, run_at=3600.0, gated=True)
        assert await storage.run_now([job]) == [Change(job, S.SCHEDULED, S.BLOCKED, altered=True)]
        record = await read(storage, job)
        assert (record.reason, record.run_at) == ("gated", None)
        # It waits for no time any more.
        assert await storage.run_now([job]) == [Change(job, S.BLOCKED, S.BLOCKED)]
        assert await storage.admit([job]) == 1
        assert (await claim_one(storage, worker)).id == job

    async def test_a_job_that_waits_for_a_worker_is_not_run_now(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await _suspended(storage, worker)
        assert await storage.run_now([job]) == [Change(job, S.BLOCKED, S.BLOCKED)]

    async def test_run_now_wakes_the_workers(self, storage: QueueStorage, other: QueueStorage) -> None:
        job = await add_job(storage, run_at=3600.0)
        async with other.subscribe([queue_topic("default")]) as there:
            await silence(there)
            await storage.run_now([job])
            await notified(there, queue_topic("default"))

    # reschedule

    async def test_a_rescheduled_job_runs_at_its_new_time(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        sooner, later = await add_job(storage, run_at=3600.0), await add_job(storage)
        now = await storage.now()
        await storage.reschedule([sooner], now + timedelta(seconds=100))
        await storage.reschedule([later], now + timedelta(seconds=200))
        for job in (sooner, later):
            record = await read(storage, job)
            assert (record.state, record.reason) == (S.SCHEDULED, "delayed")
            assert record.run_at == now + timedelta(seconds=100 if job == sooner else 200)
        assert await claim(storage, worker) == []
        await self.advance(storage, 150)
        await storage.register(worker)
        assert (await storage.promote()).promoted == 1
        assert (await claim_one(storage, worker)).id == sooner
        await self.advance(storage, 60)
        await storage.register(worker)
        assert (await storage.promote()).promoted == 1
        assert (await claim_one(storage, worker)).id == later
        await self.advance(storage, 7200)
        assert (await storage.promote()).promoted == 0

    async def test_jobs_rescheduled_to_one_moment_run_in_the_order_of_adding(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = [await add_job(storage, run_at=delay) for delay in (600.0, 500.0, 400.0)]
        moment = await storage.now() + timedelta(seconds=100)
        await storage.reschedule([jobs[2], jobs[0]], moment)
        await storage.reschedule([jobs[1]], moment + timedelta(seconds=1))
        await storage.reschedule([jobs[1]], moment)
        await self.advance(storage, 150)
        await storage.register(worker)
        assert (await storage.promote()).promoted == 3
        assert [job.id for job in await claim(storage, worker)] == jobs

    async def test_an_id_that_is_given_twice_is_rescheduled_twice(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        ahead = await storage.now() + timedelta(hours=2)
        for moment, state, after, again in (
            (ahead, S.PENDING, S.SCHEDULED, True),
            (ahead, S.DISABLED, S.DISABLED, True),
            (LONG_AGO, S.SCHEDULED, S.PENDING, False),
            (LONG_AGO, S.DISABLED, S.DISABLED, True),
        ):
            with case(f"{state} to {moment}"):
                job = await job_in(storage, worker, state)
                assert await storage.reschedule([job, job], moment) == [
                    Change(job, state, after, altered=True),
                    Change(job, after, after, altered=again),
                ]

    async def test_a_rescheduled_backoff_is_a_delay_and_its_attempts_stay(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RETRY, when=600.0)
        await _reschedule_later(storage, job)
        record = await read(storage, job)
        assert (record.reason, record.attempt) == ("delayed", 1)

    @pytest.mark.parametrize(("hours", "after"), [(2, S.SCHEDULED), (-2, S.PENDING)])
    async def test_a_disabled_job_waits_for_its_new_time_once_it_is_enabled(
        self, storage: QueueStorage, worker: WorkerInfo, hours: int, after: JobState
    ) -> None:
        job = await job_in(storage, worker, S.DISABLED, run_at=3600.0)
        await storage.reschedule([job], await storage.now() + timedelta(hours=hours))
        assert await storage.enable([job]) == [Change(job, S.DISABLED, after)]

    async def test_a_rescheduled_job_is_seen_by_who_waits_for_due_jobs(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        job = await add_job(storage, run_at=3600.0)
        async with other.subscribe([WAITING_TOPIC]) as there:
            await silence(there)
            await storage.reschedule([job], await storage.now() + timedelta(seconds=60))
            await notified(there, WAITING_TOPIC)
        next_in = (await other.promote()).next_in
        assert next_in is not None
        assert next_in <= 60

    async def test_a_deadline_still_holds_after_a_reschedule(self, storage: QueueStorage) -> None:
        job = await add_job(storage, deadline=60.0)
        await _reschedule_later(storage, job)
        await self.advance(storage, 61)
        assert (await storage.expire()).count == 1
        assert await state_of(storage, job) is S.FAILED

    # move

    async def test_a_moved_job_is_claimed_from_its_new_queue_only(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        stays = await add_job(storage, queue="b")
        job = await add_job(storage)
        await move_to(storage, "b", job)
        assert await claim(storage, worker) == []
        claimed = await claim(other, worker, 10, "b")
        assert [(each.id, each.queue) for each in claimed] == [(stays, "b"), (job, "b")]

    async def test_a_moved_job_is_shown_in_its_new_queue_in_each_state(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        for state in JobState:
            with case(state):
                job = await add_job(storage, queue="a", run_at=60.0)
                await move_to(storage, "b", job)
                await self._lead_to(storage, worker, job, state)
                record = await read(storage, job)
                assert (record.state, record.queue) == (state, "b")
                [status] = await storage.get_status([job])
                assert status is not None
                assert status.queue == "b"
                assert [(each.id, each.queue) for each in (await storage.find(JobFilter(queue="b"))).jobs] == [
                    (job, "b")
                ]
                assert [each.id for each in (await storage.find(JobFilter(queue="b", states={state}))).jobs] == [job]
                assert (await storage.find(JobFilter(queue="a"))).jobs == []
                assert (await storage.counts("b"))["b"] == dict.fromkeys(S, 0) | {state: 1}
                assert (await storage.counts("a"))["a"] == dict.fromkeys(S, 0)
                assert await storage.clear("a") == 0
                assert await storage.clear("b") == 1

    async def test_a_moved_job_ends_in_its_new_queue(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage, followed=True)
        await move_to(storage, "b", job)
        await settle(storage, worker, await claim_one(storage, worker, "b"))
        assert [(record.queue, record.jobs) for record in await storage.statistics()] == [("b", 1)]
        assert [(end.id, end.queue) for end in await storage.resolve()] == [(job, "b")]

    @pytest.mark.parametrize("ending", [Ending.RETRY, Ending.RELEASE, Ending.SNOOZE])
    async def test_a_moved_job_comes_back_to_its_new_queue(
        self, storage: QueueStorage, worker: WorkerInfo, ending: Ending
    ) -> None:
        job = await add_job(storage)
        await move_to(storage, "b", job)
        await settle(storage, worker, await claim_one(storage, worker, "b"), ending)
        assert (await claim_one(storage, worker, "b")).id == job

    async def test_a_moved_job_is_rescued_and_retried_in_its_new_queue(self, storage: QueueStorage) -> None:
        job = await add_job(storage, run_at=60.0)
        await move_to(storage, "b", job)
        await storage.run_now([job])
        lost = await register_worker(storage, lost_after=5.0)
        await claim_one(storage, lost, "b")
        await self.advance(storage, 6)
        [worker] = (await storage.rescue()).workers
        assert [(each.id, each.queue) for each in worker.jobs] == [(job, "b")]
        heir = await register_worker(storage)
        await settle(storage, heir, await claim_one(storage, heir, "b"), Ending.FAIL)
        await storage.retry([job])
        assert (await claim_one(storage, heir, "b")).id == job

    async def test_a_moved_job_that_waits_for_a_worker_is_freed_in_its_new_queue(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await _suspended(storage, worker)
        async with other.subscribe([blocked_topic("b")]) as there:
            await silence(there)
            await move_to(storage, "b", job)
            await notified(there, blocked_topic("b"))
        kinds = (("noop", "declared"),)
        answers = [
            await storage.settle_and_claim(worker.id, (), Claim.of(queue, limit=1, kinds=kinds))
            for queue in ("default", "b")
        ]
        assert [(answer.freed, [each.id for each in answer.claimed]) for answer in answers] == [(0, []), (1, [job])]

    async def test_a_returned_job_that_is_moved_goes_to_the_end_of_the_line(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RELEASE)
        first = await add_job(storage, queue="b")
        await move_to(storage, "b", job)
        assert [each.id for each in await claim(storage, worker, 10, "b")] == [first, job]

    async def test_a_job_moved_to_a_paused_queue_waits(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage)
        await storage.set_queue("b", QueueOptions(paused=True))
        await move_to(storage, "b", job)
        assert await claim(storage, worker, 10, "default", "b") == []

    async def test_a_move_wakes_the_workers_of_the_new_queue(self, storage: QueueStorage, other: QueueStorage) -> None:
        job = await add_job(storage)
        async with other.subscribe([queue_topic("b")]) as there:
            await silence(there)
            await move_to(storage, "b", job)
            await notified(there, queue_topic("b"))

    async def test_the_unique_key_of_a_moved_job_stays_in_its_old_queue(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage, unique_key="k")
        await move_to(storage, "b", job)
        [same, new] = await storage.add([new_job(unique_key="k"), new_job(queue="b", unique_key="k")])
        assert ((same.id, same.created), new.created) == ((job, False), True)
        first, second = await claim(storage, worker, 2, "b")
        await settle(storage, worker, first, Ending.FAIL)
        # The key is free in the old queue, and taken there again by a retry.
        [again] = await storage.add([new_job(unique_key="k")])
        assert again.created
        assert await storage.retry([job]) == [Change(job, S.FAILED, S.FAILED)]
        await storage.delete([again.id])
        assert await storage.retry([job]) == [Change(job, S.FAILED, S.PENDING)]
        [same] = await storage.add([new_job(unique_key="k")])
        assert (same.id, same.created) == (job, False)
        await storage.delete([job])
        [again, held] = await storage.add([new_job(unique_key="k"), new_job(queue="b", unique_key="k")])
        assert (again.created, held.id) == (True, second.id)

    # set_priority

    async def test_a_job_stands_in_the_line_of_its_new_priority(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = [await add_job(storage, priority=priority) for priority in (5, 0, 0, 0)]
        await storage.set_priority([jobs[2]], 5)
        await storage.set_priority([jobs[3]], 77)
        claimed = await claim(storage, worker)
        assert [each.id for each in claimed] == [jobs[3], jobs[0], jobs[2], jobs[1]]
        assert [each.priority for each in claimed] == [77, 5, 5, 0]

    async def test_a_returned_job_of_another_priority_leaves_the_returned_line(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), Ending.RELEASE)
        urgent = await add_job(storage, priority=9)
        await storage.set_priority([job], 9)
        assert [each.id for each in await claim(storage, worker)] == [urgent, job]

    async def test_a_new_priority_is_kept_to_the_end_and_beyond(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        for state in JobState:
            with case(state):
                job = await add_job(storage, queue="b", run_at=60.0)
                await storage.set_priority([job], 8)
                await self._lead_to(storage, worker, job, state)
                record = await read(storage, job)
                assert (record.state, record.priority) == (state, 8)
                [summary] = (await storage.find(JobFilter(queue="b"))).jobs
                assert summary.priority == 8
                await storage.retry([job])
                assert (await read(storage, job)).priority == 8
                await storage.clear("b")

    async def _lead_to(self, storage: QueueStorage, worker: WorkerInfo, job: UUID, state: JobState) -> None:
        """Bring a SCHEDULED job of queue 'b', the only one there, to a state."""
        if state is S.SCHEDULED:
            return
        await storage.run_now([job])
        if state is S.DISABLED:
            await storage.disable([job])
        elif state is S.ABORTED:
            await storage.abort([job])
        elif state is not S.PENDING:
            claimed = await claim_one(storage, worker, "b")
            endings = {S.BLOCKED: Ending.SUSPEND, S.COMPLETED: Ending.COMPLETE, S.FAILED: Ending.FAIL}
            if state in endings:
                reason = UNKNOWN_KIND if state is S.BLOCKED else None
                await settle(storage, worker, claimed, endings[state], reason=reason)


async def move_to(storage: QueueStorage, queue: str, job: UUID) -> None:
    """Move a job that waits or is PENDING."""
    [change] = await storage.move([job], queue)
    assert change.altered


async def _suspended(storage: QueueStorage, worker: WorkerInfo) -> UUID:
    """Return a job of queue 'default' that is BLOCKED as UNKNOWN_KIND."""
    job = await add_job(storage)
    claimed = await claim_one(storage, worker)
    settlement = Settlement(job, claimed.lease, Ending.SUSPEND, reason=UNKNOWN_KIND)
    await storage.settle_and_claim(worker.id, [settlement])
    assert await state_of(storage, job) is S.BLOCKED
    return job


def _fixed(record: JobRecord) -> JobRecord:
    """Return what no operation of this facet may change."""
    return msgspec.structs.replace(record, since=None, run_at=None, reason=None)
