"""Suspended jobs: BLOCKED until a worker claims that knows their kind and takes their arguments."""

from __future__ import annotations

from uuid import UUID

import pytest

from jobq_core.records import WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import (
    REFUSED_LIMIT,
    UNFIT_ARGUMENTS,
    UNKNOWN_KIND,
    Claim,
    ClaimedJob,
    QueueStorage,
    SettleAndClaimResult,
    Settlement,
    blocked_topic,
    queue_topic,
)
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.contract.notifications import notified, silence
from jobq_core.testing.helpers import add_job, claim, claim_one, new_job, read, register_worker, settle, state_of

S = JobState


async def suspend(
    storage: QueueStorage,
    worker: WorkerInfo,
    job: ClaimedJob,
    reason: str = UNKNOWN_KIND,
    declaration: str | None = None,
) -> JobState | None:
    """Suspend a claimed job, and return the state that this led to."""
    settlement = Settlement(job.id, job.lease, Ending.SUSPEND, reason=reason, declaration=declaration)
    return (await storage.settle_and_claim(worker.id, [settlement])).settled[0]


async def suspended(storage: QueueStorage, worker: WorkerInfo, *, reason: str = UNKNOWN_KIND, **options: str) -> UUID:
    """Add a job to queue 'default', and suspend it. No other job may be PENDING there."""
    declaration = options.pop("declaration", None)
    job = await add_job(storage, **options)
    claimed = await claim_one(storage, worker)
    assert await suspend(storage, worker, claimed, reason, declaration) is S.BLOCKED
    return job


async def claim_kinds(
    storage: QueueStorage, worker: WorkerInfo, *kinds: tuple[str, str], limit: int = 100
) -> SettleAndClaimResult:
    """Claim from queue 'default' with these kinds."""
    return await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=limit, kinds=kinds))


class KindsContract(ContractBase):
    """A job that its claimer cannot take waits, without a time, for a worker that can."""

    @pytest.mark.parametrize("reason", [UNKNOWN_KIND, UNFIT_ARGUMENTS])
    async def test_a_suspended_job_is_blocked_without_a_time_and_keeps_its_attempts(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo, reason: str
    ) -> None:
        job = await suspended(storage, worker, reason=reason)
        record = await read(other, job)
        assert (record.state, record.reason, record.run_at) == (S.BLOCKED, reason, None)
        assert (record.attempt, record.attempts, record.error) == (0, (), None)
        await self.advance(storage, 100_000)
        assert (await storage.promote()).promoted == 0
        assert await state_of(storage, job) is S.BLOCKED

    async def test_a_claim_frees_the_kinds_that_its_worker_knows(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = {kind: await suspended(storage, worker, kind=kind) for kind in ("one", "two", "three")}
        waiting = await add_job(storage, priority=9)
        able = await register_worker(other)
        result = await claim_kinds(other, able, ("one", "v"), ("three", "v"), ("four", "v"))
        # They are freed to the returned line, and so are claimed first.
        assert {job.id for job in result.claimed[:2]} == {jobs["one"], jobs["three"]}
        assert [job.id for job in result.claimed[2:]] == [waiting]
        assert (result.freed, result.picked) == (2, 3)
        assert await state_of(storage, jobs["two"]) is S.BLOCKED
        assert (await claim_kinds(other, able, ("one", "v"))).freed == 0

    async def test_a_claim_without_kinds_frees_nothing(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await suspended(storage, worker)
        assert await claim(storage, worker) == []
        assert await state_of(storage, job) is S.BLOCKED

    async def test_no_more_are_freed_than_the_claims_limit_the_oldest_first(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        ids = [new_job().id for _ in range(5)]
        for job in reversed(ids):
            await storage.add([new_job(id=job)])
            await suspend(storage, worker, await claim_one(storage, worker))
        first = await claim_kinds(storage, worker, ("noop", "v"), limit=2)
        assert (first.freed, [job.id for job in first.claimed]) == (2, ids[:2])
        second = await claim_kinds(storage, worker, ("noop", "v"), limit=100)
        assert (second.freed, {job.id for job in second.claimed}) == (3, set(ids[2:]))

    async def test_only_jobs_of_the_claims_queues_are_freed(self, storage: QueueStorage) -> None:
        worker = await register_worker(storage, queues=("default", "else"))
        job = await suspended(storage, worker)
        result = await storage.settle_and_claim(worker.id, (), Claim.of("else", limit=9, kinds=(("noop", "v"),)))
        assert (result.freed, result.claimed) == (0, [])
        assert await state_of(storage, job) is S.BLOCKED

    async def test_jobs_that_are_blocked_for_another_reason_stay(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        gated = await add_job(storage, gated=True)
        job = await add_job(storage)
        claimed = await claim_one(storage, worker)
        await settle(storage, worker, claimed, Ending.RELEASE, when=600.0, reason="full")
        assert (await claim_kinds(storage, worker, ("noop", "v"))).freed == 0
        assert [await state_of(storage, each) for each in (gated, job)] == [S.BLOCKED, S.BLOCKED]

    async def test_a_declaration_that_refused_a_job_does_not_free_it(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        job = await suspended(storage, worker, reason=UNFIT_ARGUMENTS, declaration="old")
        assert (await claim_kinds(storage, worker, ("noop", "old"))).freed == 0
        result = await claim_kinds(storage, worker, ("noop", "new"))
        assert (result.freed, [each.id for each in result.claimed]) == (1, [job])
        # A second refusal is kept beside the first, and both outlast everything that happens to the job.
        assert await suspend(storage, worker, result.claimed[0], UNFIT_ARGUMENTS, "new") is S.BLOCKED
        await storage.disable([job])
        await storage.enable([job])
        await suspend(storage, worker, await claim_one(storage, worker))
        for declaration in ("old", "new"):
            assert (await claim_kinds(storage, worker, ("noop", declaration))).freed == 0
        assert (await claim_kinds(storage, worker, ("noop", "newest"))).freed == 1

    async def test_the_last_refusals_are_kept(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        job = await suspended(storage, worker, reason=UNFIT_ARGUMENTS, declaration="v0")
        for n in range(1, REFUSED_LIMIT + 1):
            [claimed] = (await claim_kinds(storage, worker, ("noop", f"w{n}"))).claimed
            await suspend(storage, worker, claimed, UNFIT_ARGUMENTS, f"v{n}")
        assert (await claim_kinds(storage, worker, ("noop", f"v{REFUSED_LIMIT}"), ("noop", "v1"))).freed == 0
        assert (await claim_kinds(storage, worker, ("noop", "v0"))).freed == 1
        assert await state_of(storage, job) is S.PROCESSING

    async def test_a_worker_that_is_lost_frees_nothing(self, storage: QueueStorage, worker: WorkerInfo) -> None:
        gone = await register_worker(storage, lost_after=5.0)
        job = await suspended(storage, worker)
        await self.advance(storage, 6)
        result = await claim_kinds(storage, gone, ("noop", "v"))
        assert (result.alive, result.freed, result.claimed) == (False, 0, [])
        assert await state_of(storage, job) is S.BLOCKED

    async def test_a_suspended_job_can_be_aborted_disabled_and_deleted(
        self, storage: QueueStorage, worker: WorkerInfo
    ) -> None:
        jobs = [await suspended(storage, worker) for _ in range(3)]
        assert [change.after for change in await storage.abort(jobs[:1])] == [S.ABORTED]
        assert [change.after for change in await storage.disable(jobs[1:2])] == [S.DISABLED]
        assert [change.after for change in await storage.enable(jobs[1:2])] == [S.PENDING]
        assert [change.after for change in await storage.delete(jobs[2:])] == [None]
        assert (await claim_kinds(storage, worker, ("noop", "v"))).freed == 0

    async def test_suspended_and_freed_jobs_are_notified(
        self, storage: QueueStorage, other: QueueStorage, worker: WorkerInfo
    ) -> None:
        async with other.subscribe([blocked_topic("default"), queue_topic("default")]) as there:
            await add_job(storage)
            claimed = await claim_one(storage, worker)
            await silence(there)
            await suspend(storage, worker, claimed)
            await notified(there, blocked_topic("default"))
            await silence(there)
            await claim_kinds(storage, worker, ("noop", "v"), limit=1)
            await notified(there, queue_topic("default"))
