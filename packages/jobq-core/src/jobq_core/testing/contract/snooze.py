"""Snoozed runs: the job runs again later, and the attempt does not count."""

from __future__ import annotations

from datetime import timedelta

from jobq_core.records import WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import WAITING_TOPIC, QueueStorage
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.contract.notifications import notified, silence
from jobq_core.testing.helpers import add_job, claim, claim_one, read, register_worker, settle

S = JobState


class SnoozeContract(ContractBase):
    """A snoozed job waits without an attempt."""

    async def test_a_snoozed_job_is_scheduled_and_its_attempt_does_not_count(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        worker = await register_worker(storage, lost_after=3600.0)
        job = await add_job(storage, max_attempts=1)
        for _ in range(3):
            claimed = await claim_one(storage, worker)
            assert claimed.attempt == 1
            before = await storage.now()
            assert await settle(storage, worker, claimed, Ending.SNOOZE, when=60.0) is S.SCHEDULED
            record = await read(other, job)
            assert (record.reason, record.attempt, record.attempts, record.error) == ("snoozed", 0, (), None)
            assert record.run_at is not None
            assert before <= record.run_at - timedelta(seconds=60) <= await storage.now()
            assert await claim(storage, worker) == []
            await self.advance(storage, 61)
            assert (await storage.promote()).promoted == 1

    async def test_a_reason_replaces_the_usual_one(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await add_job(storage)
        await settle(storage, worker, await claim_one(storage, worker), Ending.SNOOZE, when=60.0, reason="no quota")
        assert (await read(storage, job)).reason == "no quota"

    async def test_a_snoozed_job_is_notified_to_those_that_promote(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        async with other.subscribe([WAITING_TOPIC]) as there:
            await add_job(storage)
            claimed = await claim_one(storage, worker)
            await silence(there)
            await settle(storage, worker, claimed, Ending.SNOOZE, when=60.0)
            await notified(there, WAITING_TOPIC)
