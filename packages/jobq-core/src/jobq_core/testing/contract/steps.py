"""Steps: statistics of ten minutes and of hours, which minutes are summed up to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from jobq_core.errors import ConfigurationError
from jobq_core.states import Ending, JobState
from jobq_core.storage import QueueStorage, StatisticsRecord
from jobq_core.storage.statistics import merge_steps
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import add_job, case, claim_one, register_worker, settle

S = JobState
STEPS = (60, 600, 3600)


def _rounded(records: Iterable[StatisticsRecord]) -> list[tuple[object, ...]]:
    """Return all of statistics; the sums of seconds depend on the order in which they are added up."""
    return sorted(
        (
            record.minute,
            record.queue,
            record.kind,
            record.state,
            record.jobs,
            round(record.waiting_seconds, 3),
            round(record.running_seconds, 3),
            sorted((bucket, n) for bucket, n in record.waiting.items() if n),
            sorted((bucket, n) for bucket, n in record.running.items() if n),
        )
        for record in records
    )


class StepsContract(ContractBase):
    """`statistics` in each of its steps, before and after they are summed up."""

    async def _run_for_two_hours(self, storage: QueueStorage) -> datetime:
        """Let jobs end from a full hour on; return that hour."""
        worker = await register_worker(storage, lost_after=1e8)
        now = await storage.now()
        hour = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        await self.advance(storage, (hour - now).total_seconds() + 1)
        for n in range(12):
            await add_job(storage, kind=("a", "b")[n % 2], queue=("default", "q")[n % 3 == 0])
            await self.advance(storage, 3 * n)
            claimed = await claim_one(storage, worker, "default", "q")
            await self.advance(storage, 7 * n)
            await settle(storage, worker, claimed, Ending.FAIL if n % 4 == 0 else Ending.COMPLETE)
            await self.advance(storage, 500)
        return hour

    async def test_longer_steps_sum_up_the_minutes(self, storage: QueueStorage, other: QueueStorage) -> None:
        hour = await self._run_for_two_hours(storage)
        minutes = await other.statistics(since=hour)
        assert sum(record.jobs for record in minutes) == 12
        for queue in (None, "default", "q", "never"):
            of_queue = [record for record in minutes if queue in (None, record.queue)]
            for step in STEPS:
                with case(f"{queue} by {step} s"):
                    longer = await other.statistics(queue, since=hour, step=step)
                    assert _rounded(longer) == _rounded(merge_steps(of_queue, step))
                    assert [record.minute for record in longer] == sorted(record.minute for record in longer)

    async def test_a_step_is_in_the_answer_if_it_starts_in_the_time_asked_for(self, storage: QueueStorage) -> None:
        hour = await self._run_for_two_hours(storage)
        for step in STEPS:
            with case(f"by {step} s"):
                every = await storage.statistics(since=hour, step=step)
                for minutes in (0, 5, 10, 55, 60, 61):
                    moment = hour + timedelta(minutes=minutes)
                    since = await storage.statistics(since=moment, step=step)
                    until = await storage.statistics(since=hour, until=moment, step=step)
                    assert _rounded(since) == _rounded(record for record in every if record.minute >= moment)
                    assert _rounded(until) == _rounded(record for record in every if record.minute < moment)

    async def test_each_step_is_kept_for_its_time_and_summed_up_to_the_next(self, storage: QueueStorage) -> None:
        hour = await self._run_for_two_hours(storage)
        before = {step: _rounded(await storage.statistics(since=hour, step=step)) for step in STEPS}
        for days, steps in ((0.9, STEPS), (2.0, STEPS[1:]), (2.8, STEPS[1:]), (29.8, STEPS[2:]), (31.5, ())):
            with case(f"after {days} days"):
                gone = await storage.now() - hour
                await self.advance(storage, days * 86_400 - gone.total_seconds())
                for _ in range(3):
                    await storage.prune()
                for step in STEPS:
                    kept = await storage.statistics(since=hour, step=step)
                    assert _rounded(kept) == (before[step] if step in steps else [])

    async def test_what_is_summed_up_already_is_added_to(self, storage: QueueStorage) -> None:
        hour = await self._run_for_two_hours(storage)
        before = _rounded(await storage.statistics(since=hour, step=3600))
        # The limits lie within the two hours: some of their minutes are older, some are not.
        for minutes in (1450, 1470, 1490, 1510, 3 * 1440 + 10, 3 * 1440 + 50, 3 * 1440 + 90):
            gone = await storage.now() - hour
            await self.advance(storage, minutes * 60 - gone.total_seconds())
            await storage.prune()
            assert _rounded(await storage.statistics(since=hour, step=3600)) == before

    async def test_jobs_that_end_while_older_steps_are_summed_up_are_counted(self, storage: QueueStorage) -> None:
        worker = await register_worker(storage, lost_after=1e8)
        start = await storage.now() - timedelta(hours=1)
        for _ in range(5):
            await add_job(storage)
            await settle(storage, worker, await claim_one(storage, worker))
            await storage.prune()
            await self.advance(storage, 0.4 * 86_400)
        hours = await storage.statistics(since=start, step=3600)
        assert sum(record.jobs for record in hours) == 5
        assert sum(sum(record.running.values()) for record in hours) == 5

    async def test_queues_and_kinds_are_summed_up_together(self, storage: QueueStorage, other: QueueStorage) -> None:
        hour = await self._run_for_two_hours(storage)
        for queue in (None, "q", "never"):
            for step in STEPS:
                with case(f"{queue} by {step} s"):
                    each = await other.statistics(queue, since=hour, step=step)
                    summed = await other.statistics(queue, since=hour, step=step, together=True)
                    unnamed = [replace(record, queue="", kind="") for record in each]
                    assert _rounded(summed) == _rounded(merge_steps(unnamed, step))
                    assert [record.minute for record in summed] == sorted(record.minute for record in summed)

    async def test_statistics_in_other_steps_are_refused(self, storage: QueueStorage) -> None:
        for step in (0, 1, 61, 86_400):
            with pytest.raises(ConfigurationError, match="step must be one of 60, 600, 3600 seconds"):
                await storage.statistics(step=step)

    async def test_the_current_step_is_in_the_answer(self, storage: QueueStorage) -> None:
        worker = await register_worker(storage)
        await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker))
        now = await storage.now()
        for step in STEPS:
            [record] = await storage.statistics(since=now - timedelta(seconds=2 * step), step=step)
            assert record.minute.timestamp() % step == 0
            assert record.minute <= now
