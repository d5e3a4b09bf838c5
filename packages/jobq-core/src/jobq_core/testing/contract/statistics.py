"""Statistics: what ended in a minute, how long it had waited, and how long it ran."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from jobq_core.records import WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import QueueStorage, StatisticsRecord, bucket_of
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import ERROR, add_job, claim_one, register_worker, settle

S = JobState


class StatisticsContract(ContractBase):
    """`statistics`, of runs that ended in every way."""

    async def test_a_run_is_counted_with_the_time_it_waited_and_ran(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        worker = await register_worker(storage, lost_after=3600.0)
        await add_job(storage, kind="a")
        await self.advance(storage, 100)
        claimed = await claim_one(storage, worker)
        await self.advance(storage, 30)
        await settle(storage, worker, claimed, result=b"1")
        now = await storage.now()
        [record] = await other.statistics()
        assert (record.queue, record.kind, record.state, record.jobs) == ("default", "a", S.COMPLETED, 1)
        assert record.minute.second == record.minute.microsecond == 0
        assert timedelta(0) <= now - record.minute < timedelta(seconds=90)
        assert record.waiting_seconds == pytest.approx(100, abs=20)
        assert record.running_seconds == pytest.approx(30, abs=20)
        assert sum(record.waiting.values()) == sum(record.running.values()) == 1
        [waited], [ran] = record.waiting, record.running
        assert bucket_of(80) <= waited <= bucket_of(120)
        assert bucket_of(20) <= ran <= bucket_of(50)

    async def test_endings_are_counted_by_queue_kind_and_state(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        wide = await register_worker(storage, queues=("default", "else"))
        for queue, kind, ending, times in (
            ("default", "a", Ending.COMPLETE, 3),
            ("default", "b", Ending.COMPLETE, 1),
            ("else", "a", Ending.COMPLETE, 2),
            ("default", "a", Ending.FAIL, 2),
            ("default", "a", Ending.ABORT, 1),
        ):
            for _ in range(times):
                await add_job(storage, queue=queue, kind=kind)
                await settle(storage, wide, await claim_one(storage, wide, queue), ending, error=ERROR)
        await add_job(storage, queue="else", kind="c")
        await settle(storage, wide, await claim_one(storage, wide, "else"), Ending.RETRY, error=ERROR, when=60.0)
        assert _totals(await storage.statistics()) == {
            ("default", "a", S.COMPLETED): 3,
            ("default", "b", S.COMPLETED): 1,
            ("else", "a", S.COMPLETED): 2,
            ("default", "a", S.FAILED): 2,
            ("default", "a", S.ABORTED): 1,
        }
        assert {queue for queue, _, _ in _totals(await storage.statistics("else"))} == {"else"}
        assert await storage.statistics("never") == []

    async def test_runs_that_do_not_end_the_job_are_left_out(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await add_job(storage)
        for ending in (Ending.RELEASE, Ending.SNOOZE, Ending.RETRY):
            await settle(storage, worker, await claim_one(storage, worker), ending)
        assert await storage.statistics() == []

    async def test_jobs_that_ended_without_a_run_are_counted_without_times(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        await storage.abort([job])
        await add_job(storage, deadline=10.0)
        await self.advance(storage, 11)
        await storage.expire()
        records = await storage.statistics()
        assert _totals(records) == {("default", "noop", S.ABORTED): 1, ("default", "noop", S.FAILED): 1}
        for record in records:
            assert (record.waiting_seconds, record.running_seconds) == (0, 0)
            assert (dict(record.waiting), dict(record.running)) == ({}, {})

    async def test_a_job_that_fails_with_its_worker_is_counted(self, storage: QueueStorage) -> None:
        for attempts in (1, 5):
            lost = await register_worker(storage, lost_after=5.0)
            job = await add_job(storage, max_attempts=attempts)
            claimed = await claim_one(storage, lost)
            await storage.mark_started(lost.id, [(job, claimed.lease)])
            await self.advance(storage, 6)
            await storage.rescue()
        [record] = await storage.statistics()
        assert (record.state, record.jobs, sum(record.running.values())) == (S.FAILED, 1, 1)

    async def test_minutes_are_kept_apart_and_pruning_keeps_their_sums(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        worker = await register_worker(storage, lost_after=36_000.0)
        for _ in range(3):
            for _ in range(2):
                await add_job(storage)
                await settle(storage, worker, await claim_one(storage, worker))
            await self.advance(storage, 120)
        before = _by_minute(await storage.statistics())
        assert sum(before.values()) == 6
        assert len(before) >= 3
        await storage.prune()
        assert _by_minute(await other.statistics()) == before
        first = min(before)
        after = await storage.statistics(since=first + timedelta(minutes=1))
        assert sum(_by_minute(after).values()) == 6 - before[first]
        until = await storage.statistics(until=first + timedelta(minutes=1))
        assert _by_minute(until) == {first: before[first]}

    async def test_finished_jobs_are_counted_though_they_are_pruned_from_the_counts(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker))
        await storage.delete([job])
        assert (await storage.counts("default"))["default"][S.COMPLETED] == 0
        assert _totals(await storage.statistics()) == {("default", "noop", S.COMPLETED): 1}


def _totals(records: list[StatisticsRecord]) -> dict[tuple[str, str, JobState], int]:
    totals: dict[tuple[str, str, JobState], int] = {}
    for record in records:
        key = record.queue, record.kind, record.state
        totals[key] = totals.get(key, 0) + record.jobs
    return totals


def _by_minute(records: list[StatisticsRecord]) -> dict[datetime, int]:
    minutes: dict[datetime, int] = {}
    for record in records:
        minutes[record.minute] = minutes.get(record.minute, 0) + record.jobs
    return minutes
