"""What shows that a change of a storage's schema, or its refusal, loses no job: fill it before, work on it after."""

from __future__ import annotations

import asyncio
from typing import Final

from jobq_core.records import JobRecord
from jobq_core.states import Ending, JobState
from jobq_core.storage import JobFilter, QueueStorage
from jobq_core.testing.helpers import ERROR, add_job, claim, claim_one, job_in, read, register_worker, settle

CLAIMABLE: Final = (JobState.PENDING, JobState.BLOCKED)
"""The states of jobs that a new worker claims: what is BLOCKED here waits for one that knows its kind."""


async def fill(storage: QueueStorage) -> list[JobRecord]:
    """Put jobs in all states but PROCESSING into an empty storage, one with a unique key, and return them."""
    worker = await register_worker(storage)
    for state in set(JobState) - {JobState.PROCESSING, JobState.PENDING}:
        await job_in(storage, worker, state)
    await add_job(storage, unique_key="held")
    await storage.deregister(worker.id)
    return (await storage.find(JobFilter())).jobs


async def work_on(storage: QueueStorage, before: list[JobRecord]) -> None:
    """See that these jobs are as they were, and that a worker claims, settles, loses and prunes them and others."""
    there = (await storage.find(JobFilter())).jobs
    assert [record for record in there if record in before] == before
    worker, other = await register_worker(storage), await register_worker(storage)
    new = await add_job(storage, run_at=0.001)
    async with asyncio.timeout(20):
        while not (await storage.promote()).promoted:
            pass
    claimed = await claim(storage, worker)
    assert {job.id for job in claimed} == {new, *(job.id for job in before if job.state in CLAIMABLE)}
    for job in claimed:
        assert await settle(storage, worker, job) is JobState.COMPLETED
    lost = await add_job(storage)
    await claim_one(storage, other)
    await storage.deregister(other.id)
    assert [[job.id for job in found.jobs] for found in await storage.rescue()] == [[lost]]
    await settle(storage, worker, await claim_one(storage, worker), Ending.FAIL, error=ERROR)
    assert (await read(storage, lost)).state is JobState.FAILED
    assert await storage.prune() == 0
    await storage.deregister(worker.id)
