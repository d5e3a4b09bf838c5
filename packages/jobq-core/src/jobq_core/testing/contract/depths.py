"""Depths: how many jobs wait and run, now and in the past, and how many are ahead of one."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from jobq_core.errors import ConfigurationError
from jobq_core.ids import new_id
from jobq_core.records import WorkerInfo
from jobq_core.states import FINISHED, Ending, JobState
from jobq_core.storage import COUNTED, SAMPLE_SECONDS, Depth, DepthPoint, QueueStorage
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import add_job, case, claim, claim_one, job_in, new_job, read, register_worker, settle

S = JobState
HOUR = timedelta(hours=1)


def _jobs(depths: list[Depth]) -> dict[tuple[str, JobState], int]:
    jobs = {(depth.queue, depth.state): depth.jobs for depth in depths}
    assert len(jobs) == len(depths)
    return jobs


def _points(points: list[DepthPoint]) -> list[tuple[datetime, str, JobState, int]]:
    return [(point.at, point.queue, point.state, point.jobs) for point in points]


class DepthsContract(ContractBase):
    """`depths`, `sample_depths`, `depth_history`, `jobs_ahead` and `overdue`."""

    # depths

    async def test_depths_follow_each_state(self, storage: QueueStorage, other: QueueStorage) -> None:
        worker = await register_worker(storage, lost_after=3600.0)
        assert await storage.depths() == []
        jobs: dict[JobState, Any] = {}
        for state in S:
            with case(state):
                jobs[state] = await job_in(storage, worker, state, queue=state.value)
                await self.advance(storage, 5)
                await job_in(storage, worker, state, queue=f"second {state}")
                await storage.move([jobs[state]], "moved")
        before = await storage.now()
        depths = await other.depths()
        now = await storage.now()
        counts = await other.counts()
        expected = {(queue, state): n for queue, states in counts.items() for state, n in states.items() if n}
        assert _jobs(depths) == expected
        for depth in depths:
            assert before <= depth.at <= now
            if depth.state in FINISHED:
                assert depth.oldest is None
            if depth.queue in ("moved", depth.state.value):
                record = await read(storage, jobs[depth.state])
                assert depth.oldest == (None if depth.state in FINISHED else record.since)
        for queue in ("moved", S.FAILED.value, "never"):
            assert _jobs(await other.depths(queue)) == {key: n for key, n in expected.items() if key[0] == queue}

    async def test_the_oldest_of_several_jobs_is_told(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        jobs = []
        for priority in (0, -5, 5, 0):
            jobs.append(await add_job(storage, priority=priority))
            await self.advance(storage, 5)

        async def oldest() -> dict[JobState, datetime | None]:
            return {depth.state: depth.oldest for depth in await storage.depths("default")}

        since = [(await read(storage, job)).since for job in jobs]
        assert await oldest() == {S.PENDING: since[0]}
        # A new priority and a new place in the line leave the time that the job waits.
        await storage.set_priority([jobs[0]], -7)
        assert await oldest() == {S.PENDING: since[0]}
        claimed = await claim_one(storage, worker)
        started = (await read(storage, claimed.id)).since
        assert claimed.id == jobs[2]
        assert await oldest() == {S.PENDING: since[0], S.PROCESSING: started}
        await storage.abort([jobs[0]])
        assert await oldest() == {S.PENDING: since[1], S.PROCESSING: started, S.ABORTED: None}

    async def test_of_very_many_jobs_the_depth_is_the_last_samples(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        jobs = [new_job() for _ in range(COUNTED + 1)]
        for start in range(0, len(jobs), 5_000):
            await storage.add(jobs[start : start + 5_000])
        await add_job(storage, queue="b", run_at=3600.0)
        many, few = ("default", S.PENDING), ("b", S.SCHEDULED)
        assert _jobs(await other.depths()) == {many: COUNTED + 1, few: 1}
        await storage.sample_depths()
        sampled = await storage.now()
        await self.advance(storage, 60)
        await storage.add([new_job(), new_job(queue="b", run_at=3600.0)])
        depths = {(depth.queue, depth.state): depth for depth in await other.depths()}
        assert {key: depth.jobs for key, depth in depths.items()} == {many: COUNTED + 1, few: 2}
        assert depths[many].at <= sampled < depths[few].at
        assert depths[many].oldest is not None
        # As soon as they are few, they are counted.
        await storage.abort([job.id for job in jobs[:2]])
        assert _jobs(await other.depths()) == {many: COUNTED, few: 2, ("default", S.ABORTED): 2}

    # sample_depths and depth_history

    async def _to_full_hour(self, storage: QueueStorage) -> datetime:
        """Move the clock to a second after a full hour, so that a step of 60 seconds lasts as long as the test may;
        return that hour."""
        now = await storage.now()
        hour = now.replace(minute=0, second=0, microsecond=0) + HOUR
        await self.advance(storage, (hour - now).total_seconds() + 1)
        return hour

    async def test_a_sample_is_due_again_after_a_while_also_if_another_process_took_it(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        hour = await self._to_full_hour(storage)
        await add_job(storage)
        due_in = await storage.sample_depths()
        assert due_in >= SAMPLE_SECONDS
        began = await storage.now()
        await add_job(storage)
        again_in = await other.sample_depths()
        history = _points(await storage.depth_history(since=hour))
        if await storage.now() < began + timedelta(seconds=due_in):  # this machine may have stood still
            assert 0 < again_in <= due_in
            assert history == [(hour, "default", S.PENDING, 1)]
        await self.advance(storage, due_in)
        assert await other.sample_depths() >= SAMPLE_SECONDS
        assert _points(await storage.depth_history(since=hour, step=3_600)) == [(hour, "default", S.PENDING, 2)]

    async def test_the_history_has_the_last_sample_of_each_step(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        hour = await self._to_full_hour(storage)
        worker = await register_worker(storage, lost_after=1e6)
        for minute in range(4):
            await add_job(storage)
            if minute == 2:
                await add_job(storage, queue="b", run_at=1e5)
                await claim_one(storage, worker)
            await storage.sample_depths()
            await self.advance(storage, 30)
            await storage.sample_depths()
            await self.advance(storage, 30)
        minutes = [hour + timedelta(minutes=minute) for minute in range(4)]
        expected = [
            (minutes[0], "default", S.PENDING, 1),
            (minutes[1], "default", S.PENDING, 2),
            (minutes[2], "b", S.SCHEDULED, 1),
            (minutes[2], "default", S.PENDING, 2),
            (minutes[2], "default", S.PROCESSING, 1),
            (minutes[3], "b", S.SCHEDULED, 1),
            (minutes[3], "default", S.PENDING, 3),
            (minutes[3], "default", S.PROCESSING, 1),
        ]
        points = await other.depth_history()
        assert sorted(_points(points)) == expected
        assert [point.at for point in points] == sorted(point.at for point in points)
        assert sorted(_points(await other.depth_history("b"))) == [expected[2], expected[5]]
        assert sorted(_points(await other.depth_history(since=minutes[1], until=minutes[3]))) == expected[1:5]
        for step in (600, 3600):
            coarse = await other.depth_history(since=hour, step=step)
            assert sorted(_points(coarse)) == [(hour, *rest) for _, *rest in expected[5:]]
        oldest = {(point.at, point.state): point.oldest_seconds for point in await other.depth_history("default")}
        for minute in (0, 1):
            assert oldest[minutes[minute], S.PENDING] == pytest.approx(60 * minute + 30, abs=25)
        # The oldest job runs now.
        assert oldest[minutes[3], S.PENDING] == pytest.approx(150, abs=25)
        assert oldest[minutes[3], S.PROCESSING] == pytest.approx(90, abs=25)

    async def test_the_history_of_all_queues_together_sums_them_up(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        hour = await self._to_full_hour(storage)
        for queue in ("a", "b", "b"):
            await add_job(storage, queue=queue)
            await self.advance(storage, 5)
        await storage.sample_depths()
        each = await other.depth_history(since=hour)
        assert len(each) == 2
        (point,) = await other.depth_history(since=hour, together=True)
        assert _points([point]) == [(hour, "", S.PENDING, 3)]
        assert point.oldest_seconds == max(point.oldest_seconds or 0.0 for point in each)
        assert [point.jobs for point in await other.depth_history("b", since=hour, together=True)] == [2]

    async def test_a_queue_without_unfinished_jobs_has_no_points(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        await job_in(storage, worker, S.COMPLETED)
        await storage.sample_depths()
        assert await storage.depth_history() == []

    async def test_the_history_is_kept_as_statistics_are(self, storage: QueueStorage) -> None:
        hour = await self._to_full_hour(storage)
        await add_job(storage)
        await storage.sample_depths()
        kept = [(hour, "default", S.PENDING, 1)]
        for days, steps in ((0.9, (60, 600, 3600)), (2.8, (600, 3600)), (29.8, (3600,)), (31.5, ())):
            with case(f"after {days} days"):
                gone = await storage.now() - hour
                await self.advance(storage, days * 86_400 - gone.total_seconds())
                await storage.prune()
                for step in (60, 600, 3600):
                    expected = kept if step in steps else []
                    assert _points(await storage.depth_history(since=hour, step=step)) == expected

    async def test_a_history_in_other_steps_is_refused(self, storage: QueueStorage) -> None:
        for step in (0, 1, 61, 86_400):
            with pytest.raises(ConfigurationError, match="step must be one of 60, 600, 3600 seconds"):
                await storage.depth_history(step=step)

    # jobs_ahead

    async def test_the_jobs_ahead_are_those_that_are_claimed_before(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        draw = random.Random(7)
        for _ in range(3):
            await add_job(storage)
        returned = await claim(storage, worker)
        jobs = [new_job(priority=draw.choice([-100, 0, 0, 7, 100])) for _ in range(20)]
        await storage.add(jobs)
        await add_job(storage, queue="b", priority=100)
        for each in returned:
            await settle(storage, worker, each, Ending.RELEASE)
        ids = [job.id for job in jobs] + [each.id for each in returned]
        ahead = {job: await other.jobs_ahead(job) for job in ids}
        assert sorted(n for n in ahead.values() if n is not None) == list(range(23))
        limited = {job: await other.jobs_ahead(job, limit=4) for job in ids}
        assert limited == {job: min(n, 4) for job, n in ahead.items() if n is not None}
        order = [each.id for each in await claim(storage, worker)]
        assert sorted(ids, key=lambda job: ahead[job] or 0) == order

    async def test_no_jobs_are_ahead_of_one_that_is_not_pending(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        for state in S:
            with case(state):
                job = await job_in(storage, worker, state, queue=state.value)
                assert await storage.jobs_ahead(job) == (0 if state is S.PENDING else None)
        assert await storage.jobs_ahead(new_id()) is None

    # overdue

    async def test_jobs_are_overdue_until_they_are_promoted(self, storage: QueueStorage, other: QueueStorage) -> None:
        due = [new_job(run_at=10.0), new_job(run_at=20.0, queue="b"), new_job(run_at=20.0, gated=True)]
        held = new_job(run_at=10.0)
        await storage.add([*due, held, new_job(run_at=3600.0), new_job()])
        await storage.disable([held.id])
        assert await other.overdue(0.0) == 0
        await self.advance(storage, 75)
        assert await other.overdue(0.0) == len(due)
        assert await other.overdue(0.0, limit=2) == 2
        assert await other.overdue(60.0) == 1
        await storage.promote()
        assert await other.overdue(0.0) == 0
