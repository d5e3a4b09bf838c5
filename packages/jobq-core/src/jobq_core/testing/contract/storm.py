"""All operations at once, from many actors: no call fails or waits forever, and no promise is broken."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest

from jobq_core.records import Progress, WorkerInfo
from jobq_core.states import FINISHED, Ending, JobState
from jobq_core.storage import (
    Claim,
    ClaimedJob,
    JobFilter,
    NewJob,
    ProgressReport,
    QueueOptions,
    QueueStorage,
    Retention,
    Settlement,
)
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import ERROR, RUN_ENDINGS, new_job, worker_info

QUEUES = ("a", "b")
ROUNDS = 40
SAFETY_NET = 60.0
"""Seconds after which calls that block each other have failed."""


class Storm:
    """Actors that share jobs, and the answers they got. They sleep for a moment between calls, so that they take turns
    on a storage whose calls never wait."""

    def __init__(self, seed: int, *storages: QueueStorage) -> None:
        self.draw = random.Random(seed)
        self.storages = storages
        self.jobs: list[UUID] = []
        self.leases: list[int] = []
        self.completed: Counter[UUID] = Counter()
        self.homes: dict[UUID, str] = {}
        self.workers: list[WorkerInfo] = []

    async def rage(self) -> None:
        """Run all actors at once."""
        async with asyncio.timeout(SAFETY_NET):
            await asyncio.gather(
                *(self._add(storage) for storage in self.storages),
                *(self._work(storage) for storage in self.storages * 2),
                *(self._control(storage) for storage in self.storages),
                *(self._maintain(storage) for storage in self.storages),
            )

    def _some(self, most: int) -> list[UUID]:
        return self.draw.sample(self.jobs, min(most, len(self.jobs)))

    def _job(self) -> NewJob:
        return new_job(
            queue=self.draw.choice(QUEUES),
            priority=self.draw.choice([0, 5]),
            run_at=self.draw.choice([None, None, None, 0.0, 0.01]),
            max_attempts=self.draw.choice([1, 10]),
            unique_key=self.draw.choice([*"klmnop", *[None] * 8]),
            run_id=self.draw.choice([None, "r"]),
        )

    async def _add(self, storage: QueueStorage) -> None:
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
            batch = [self._job() for _ in range(self.draw.randint(1, 12))]
            added = await storage.add(batch)
            self.jobs += [each.id for each in added if each.created]
            self.homes |= {job.id: job.queue for job in batch}

    async def _work(self, storage: QueueStorage) -> None:
        worker = worker_info(queues=QUEUES, lost_after=600.0)
        self.workers.append(worker)
        await storage.register(worker)
        held: list[ClaimedJob] = []
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
            reports = [ProgressReport(id=job.id, lease=job.lease, progress=Progress(percent=5.0)) for job in held]
            await storage.progress(worker.id, reports)
            await storage.mark_started(worker.id, [(job.id, job.lease) for job in held if job.needs_start_mark])
            settlements = [self._settlement(job) for job in self.draw.sample(held, len(held) * 2 // 3)]
            queues = self.draw.choice([QUEUES, QUEUES[::-1]])
            result = await storage.settle_and_claim(
                worker.id, settlements, Claim.of(*queues, limit=self.draw.randint(1, 12))
            )
            assert result.alive
            for settlement, state in zip(settlements, result.settled, strict=True):
                self.completed[settlement.id] += state is JobState.COMPLETED
            settled = {settlement.lease for settlement in settlements}
            held = [job for job in held if job.lease not in settled] + result.claimed
            self.leases += [job.lease for job in result.claimed]

    def _settlement(self, job: ClaimedJob) -> Settlement:
        ending = self.draw.choice([*RUN_ENDINGS, Ending.COMPLETE])
        completes = ending is Ending.COMPLETE
        when = self.draw.choice([None, 0.01]) if ending in (Ending.RETRY, Ending.RELEASE) else None
        return Settlement(job.id, job.lease, ending, b"1" if completes else None, None if completes else ERROR, when)

    async def _control(self, storage: QueueStorage) -> None:
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
            operation = self.draw.choice(["abort", "disable", "enable", "enable", "retry", "retry", "delete"])
            await getattr(storage, operation)(self._some(12))
            await self._alter(storage)
            if self.draw.random() < 0.1:
                await storage.abort_run(self.draw.choice(["r", "none"]))

    async def _alter(self, storage: QueueStorage) -> None:
        operation = self.draw.choice(["run_now", "reschedule", "move", "set_priority", "none", "none"])
        if operation == "run_now":
            await storage.run_now(self._some(5))
        elif operation == "reschedule":
            await storage.reschedule(self._some(5), await storage.now() + timedelta(seconds=0.01))
        elif operation == "move":
            await storage.move(self._some(5), self.draw.choice(QUEUES))
        elif operation == "set_priority":
            await storage.set_priority(self._some(5), self.draw.choice([0, 5]))

    async def _maintain(self, storage: QueueStorage) -> None:
        kept = QueueOptions(retention=Retention(completed=None, failed=0, aborted=0))
        for queue in QUEUES:
            await storage.set_queue(queue, kept)
        for turn in range(ROUNDS):
            await asyncio.sleep(0)
            gone = worker_info(queues=QUEUES)
            await storage.register(gone)
            result = await storage.settle_and_claim(gone.id, (), Claim.of(*QUEUES, limit=2))
            self.leases += [job.lease for job in result.claimed]
            await storage.deregister(gone.id)
            await storage.rescue()
            await storage.promote()
            await storage.counts()
            await storage.depths()
            await storage.sample_depths()
            if turn % 5 == 0:
                await storage.prune(limit=5)


class StormContract(ContractBase):
    """Many actors at once break no promise."""

    @pytest.mark.parametrize("seed", range(3))
    async def test_a_storm_of_everything_at_once_breaks_no_promise(
        self, storage: QueueStorage, other: QueueStorage, seed: int
    ) -> None:
        storm = Storm(seed, storage, other)
        await storm.rage()
        await other.rescue()
        ids = [job.id for job in (await storage.find(JobFilter(), limit=100_000)).jobs]
        records = [record for record in await storage.get(ids) if record is not None]
        # Each lease was given once, and each PROCESSING job is held by a worker that is alive.
        assert len(storm.leases) == len(set(storm.leases)) > 0
        held = [job for worker in storm.workers for job in await storage.recover_claims(worker.id, [])]
        running = {record.id: record.lease for record in records if record.state is JobState.PROCESSING}
        assert {job.id: job.lease for job in held} == running
        # A job completes once, and stays completed.
        assert max(storm.completed.values()) == 1
        for record in records:
            assert (record.state is JobState.COMPLETED) is (storm.completed[record.id] == 1)
            assert (record.result_json is not None) is (record.state is JobState.COMPLETED)
            assert (record.finished_at is not None) is (record.state in FINISHED)
        # Each key has at most one unfinished job; a moved one keeps that of the queue where it was added.
        keyed = [record for record in records if record.unique_key and not record.finished]
        keys = [(storm.homes[record.id], record.unique_key) for record in keyed]
        assert len(keys) == len(set(keys))
        # The counts agree with the records.
        for queue in QUEUES:
            found = Counter(record.state for record in records if record.queue == queue)
            assert (await other.counts(queue))[queue] == {state: found[state] for state in JobState}
