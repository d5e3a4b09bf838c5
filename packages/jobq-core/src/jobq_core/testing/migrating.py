"""For tests that a migration, or a refused one, loses no job: fill a storage before it, and work on it after."""

from __future__ import annotations

import asyncio
from typing import Final

from jobq_core.records import JobRecord
from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, JobFilter, QueueStorage
from jobq_core.testing.helpers import ERROR, add_job, claim_one, job_in, read, register_worker, settle

CLAIMABLE: Final = (JobState.PENDING, JobState.BLOCKED)
"""The states of jobs that a new worker claims: the BLOCKED ones here wait for a claim that names their kind."""


async def fill(storage: QueueStorage) -> list[JobRecord]:
    """Add jobs in all states but PROCESSING, and one with a unique key, to an empty storage; return them."""
    worker = await register_worker(storage)
    for state in set(JobState) - {JobState.PROCESSING, JobState.PENDING}:
        await job_in(storage, worker, state)
    await add_job(storage, unique_key="held")
    await storage.deregister(worker.id)
    return await _all(storage)


async def _all(storage: QueueStorage) -> list[JobRecord]:
    found = (await storage.find(JobFilter())).jobs
    return [record for record in await storage.get([job.id for job in found]) if record is not None]


async def work_on(storage: QueueStorage, before: list[JobRecord]) -> None:
    """Check that these jobs are unchanged, and that workers can claim, settle, rescue and prune them and others."""
    there = await _all(storage)
    assert [record for record in there if record in before] == before
    worker, other = await register_worker(storage), await register_worker(storage)
    new = await add_job(storage, run_at=0.001)
    async with asyncio.timeout(20):
        while not (await storage.promote()).promoted:
            pass
    kinds = tuple((kind, "a declaration") for kind in worker.kinds)  # so that the claim frees the BLOCKED job
    claim = Claim.of(*worker.queues, limit=100, kinds=kinds)
    claimed = (await storage.settle_and_claim(worker.id, (), claim)).claimed
    assert {job.id for job in claimed} == {new, *(job.id for job in before if job.state in CLAIMABLE)}
    for job in claimed:
        assert await settle(storage, worker, job) is JobState.COMPLETED
    lost = await add_job(storage)
    await claim_one(storage, other)
    await storage.deregister(other.id)
    assert [[job.id for job in found.jobs] for found in (await storage.rescue()).workers] == [[lost]]
    await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
    assert (await read(storage, lost)).state is JobState.FAILED
    assert await storage.prune() == 0
    await storage.deregister(worker.id)
