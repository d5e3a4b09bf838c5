"""Many jobs, several workers that stop and start, and a storage of which every seventh call fails, before or after."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest

from jobq_core import Backoff, JobState, job
from jobq_core.storage import JobFilter
from jobq_worker import JobQueueWorker, outages

from .kit import add_many, until
from .probe import Probe

COUNT = 300


@pytest.mark.parametrize("seed", range(6))
async def test_every_job_completes_and_runs_once_whatever_calls_fail(
    storage: Probe, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "BACKOFF", Backoff(base=0.001, maximum=0.01))
    dice = Random(seed)
    ends: Counter[int] = Counter()

    @job(name="in_loop")
    async def in_loop(n: int) -> int:
        for _ in range(n % 4):
            await asyncio.sleep(0)
        ends[n] += 1
        return n

    @job(name="in_thread")
    def in_thread(n: int) -> int:
        ends[n] += 1
        return n

    ids = await add_many(storage, [(in_loop if n % 3 else in_thread)(n=n) for n in range(COUNT)])
    workers = [
        JobQueueWorker(storage, jobs=[in_loop, in_thread], concurrency=3, poll_interval=0.01, name=f"w{n}")
        for n in range(3)
    ]
    for worker in workers:
        await worker.start()
    storage.dice = dice
    for step in range(1, 6):
        await until(lambda step=step: sum(ends.values()) >= step * COUNT // 8)  # type: ignore[misc]
        worker = dice.choice(workers)
        await worker.stop(dice.choice([0, 30]))
        storage.dice = None
        await worker.start()
        storage.dice = dice

    async def all_done() -> bool:
        counts = (await storage.counts("default"))["default"]
        return counts[JobState.COMPLETED] == COUNT

    await until(all_done)
    storage.dice = None
    for worker in workers:
        await worker.stop()
    assert ends == dict.fromkeys(range(COUNT), 1)
    assert sum(worker.pool_stats().total.completed for worker in workers) == COUNT
    page = await storage.find(JobFilter(), limit=COUNT)
    records = [record for record in await storage.get([found.id for found in page.jobs]) if record is not None]
    assert {record.id: record.result for record in records} == {job_id: n for n, job_id in enumerate(ids)}
    assert all(found.attempt == 1 for found in page.jobs)
