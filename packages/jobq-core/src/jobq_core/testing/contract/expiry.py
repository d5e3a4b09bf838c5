"""Expiry: jobs past their deadline fail where they wait, and the keeper knows when to look next."""

from __future__ import annotations

from datetime import timedelta

from jobq_core.errors import JobDeadlineError
from jobq_core.records import WorkerInfo, type_name
from jobq_core.states import Ending, JobState
from jobq_core.storage import FINISHED_TOPIC, UNKNOWN_KIND, QueueStorage
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.contract.notifications import notified, silence
from jobq_core.testing.helpers import ERROR, add_job, claim, claim_one, new_job, read, register_worker, settle, state_of

S = JobState


class ExpiryContract(ContractBase):
    """Deadlines of waiting jobs, and the time of the next duty."""

    async def test_waiting_and_pending_jobs_fail_at_their_deadline(
        self, storage: QueueStorage, other: QueueStorage
    ) -> None:
        worker = await register_worker(storage, lost_after=3600.0)
        suspended = await add_job(storage, deadline=60.0)
        claimed = await claim_one(storage, worker)
        await settle(storage, worker, claimed, Ending.SUSPEND, reason=UNKNOWN_KIND)
        late = [
            suspended,
            await add_job(storage, deadline=60.0),
            await add_job(storage, deadline=60.0, run_at=600.0),
            await add_job(storage, deadline=60.0, gated=True),
        ]
        kept = [await add_job(storage, deadline=120.0), await add_job(storage)]
        assert (await storage.expire()).count == 0
        await self.advance(storage, 61)
        expired = await other.expire()
        assert expired.count == 4
        assert expired.next_in is not None
        assert 50 < expired.next_in <= 59
        for job in late:
            record = await read(other, job)
            assert (record.state, record.attempt, record.attempts, record.reason) == (S.FAILED, 0, (), None)
            assert record.error is not None
            assert (record.error.type, record.error.traceback) == (type_name(JobDeadlineError), None)
            assert record.error.message == "its deadline passed before it could start"
            assert record.finished_at is not None
            assert record.deadline is not None
            assert timedelta(0) < record.finished_at - record.deadline < timedelta(seconds=30)
        assert [await state_of(storage, job) for job in kept] == [S.PENDING, S.PENDING]
        assert [job.id for job in await claim(storage, worker)] == kept

    async def test_running_disabled_and_finished_jobs_do_not_expire(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        done = await add_job(storage, deadline=60.0)
        await settle(storage, worker, await claim_one(storage, worker))
        running = await add_job(storage, deadline=60.0)
        claimed = await claim_one(storage, worker)
        disabled = await add_job(storage, deadline=60.0)
        await storage.disable([disabled])
        await self.advance(storage, 61)
        await storage.register(worker)
        expired = await storage.expire()
        assert (expired.count, expired.next_in) == (0, None)
        assert [await state_of(storage, job) for job in (done, running, disabled)] == [
            S.COMPLETED,
            S.PROCESSING,
            S.DISABLED,
        ]
        # Back among the waiting, they are found.
        await settle(storage, worker, claimed, Ending.RETRY, error=ERROR)
        await storage.enable([disabled])
        assert (await storage.expire()).count == 2
        record = await read(storage, running)
        assert (record.state, record.attempt, len(record.attempts)) == (S.FAILED, 1, 1)

    async def test_a_key_is_free_and_waiters_are_notified(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        async with other.subscribe([FINISHED_TOPIC]) as there:
            await add_job(storage, deadline=60.0, unique_key="k")
            await self.advance(storage, 61)
            await silence(there)
            assert (await storage.expire()).count == 1
            await notified(there, FINISHED_TOPIC)
        [added] = await storage.add([new_job(unique_key="k")])
        assert added.created

    async def test_an_expired_job_can_be_retried_and_expires_again(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await add_job(storage, deadline=60.0)
        await self.advance(storage, 61)
        assert (await storage.expire()).count == 1
        assert [change.after for change in await storage.retry([job])] == [S.PENDING]
        assert (await storage.expire()).count == 1

    async def test_no_more_expire_than_the_limit(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        for n in range(5):
            await add_job(storage, deadline=10.0 + n)
        await self.advance(storage, 61)
        assert [(await storage.expire(2)).count for _ in range(2)] == [2, 2]
        last = await storage.expire(2)
        assert (last.count, last.next_in) == (1, None)

    async def test_expired_jobs_are_counted_as_failed(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        await add_job(storage, deadline=60.0)
        await self.advance(storage, 61)
        await storage.expire()
        counts = (await storage.counts("default"))["default"]
        assert (counts[S.PENDING], counts[S.FAILED]) == (0, 1)

    async def test_a_rescue_says_when_the_next_worker_could_expire(self, storage: QueueStorage) -> None:
        assert (await storage.rescue()).next_in is None
        await register_worker(storage, lost_after=120.0)
        await register_worker(storage, lost_after=20.0)
        found = await storage.rescue()
        assert found.workers == []
        assert found.next_in is not None
        assert 10 < found.next_in <= 20
        await self.advance(storage, 21)
        found = await storage.rescue()
        assert len(found.workers) == 1
        assert found.next_in is not None
        assert 60 < found.next_in <= 99
