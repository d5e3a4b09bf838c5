"""Random lives, lived on SQLite and in memory alike: after each step both answer the same."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import pytest

from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import ErrorRecord, Progress
from jobq_core.states import Ending, JobState
from jobq_core.storage import (
    UNKNOWN_KIND,
    Claim,
    ClaimedJob,
    JobFilter,
    NewJob,
    ProgressReport,
    QueueStorage,
    Retention,
    Settlement,
)
from jobq_core.testing import ManualClock, new_job, worker_info
from jobq_storage_sqlite import SqliteQueueStorage

QUEUES = ("mail", "images")
KINDS = ("send", "scale")


class Life:
    """Draws steps and runs each on both storages. Lease numbers differ between the two: leases go by their turn."""

    def __init__(self, seed: int, storages: Sequence[QueueStorage], clock: ManualClock) -> None:
        self.draw = random.Random(seed)
        self.storages = storages
        self.clock = clock
        self.ids: list[UUID] = []
        self.runs: list[tuple[ClaimedJob, ClaimedJob]] = []
        self.workers = [worker_info(queues=QUEUES, kinds=KINDS, lost_after=20.0) for _ in range(3)]

    async def both(self, name: str, *arguments: Any, **options: Any) -> Any:
        first, second = [await getattr(storage, name)(*arguments, **options) for storage in self.storages]
        assert first == second, name
        return first

    def some(self, most: int = 5) -> list[UUID]:
        return [self.draw.choice(self.ids) for _ in range(self.draw.randint(0, most))] if self.ids else []

    def job(self) -> NewJob:
        draw = self.draw
        again = bool(self.ids) and draw.random() < 0.1
        job = new_job(
            queue=draw.choice(QUEUES),
            kind=draw.choice(KINDS),
            arguments=draw.choice([b"{}", b'{"a":1}']),
            priority=draw.choice([0, 0, 0, 5, -9]),
            run_at=draw.choice([None, None, None, 0.0, 7.0, 30.0]),
            deadline=draw.choice([None, 60.0]),
            timeout=draw.choice([None, 1.5]),
            max_attempts=draw.choice([1, 2, 10]),
            unique_key=draw.choice([None, None, "a", "b"]),
            run_id=draw.choice([None, "run 1", "run 2"]),
            tags=draw.choice([(), ("x",), ("x", "y")]),
            fingerprint=draw.choice([None, b"0123456789abcdef"]),
        )
        return attrs.evolve(job, id=draw.choice(self.ids)) if again else job

    async def add(self) -> None:
        jobs = [self.job() for _ in range(self.draw.randint(1, 6))]
        for added in await self.both("add", jobs):
            if added.created:
                self.ids.append(added.id)

    async def exchange(self) -> None:
        draw = self.draw
        worker = draw.choice(self.workers)
        chosen = draw.sample(range(len(self.runs)), min(len(self.runs), draw.randint(0, 4)))
        options = [
            {
                "ending": draw.choice([*Ending, Ending.COMPLETE, Ending.COMPLETE]),
                "result": draw.choice([None, b"null", b"[1,2]"]),
                "error": draw.choice([None, ErrorRecord(type="ValueError", message="no – ☃\0", traceback="line\n")]),
                "when": draw.choice([None, -1.0, 0.0, 15.0]),
                "reason": draw.choice([None, UNKNOWN_KIND]),
            }
            for _ in chosen
        ]
        claim = draw.choice([None, Claim(QUEUES, draw.randint(0, 5)), Claim(QUEUES[::-1], 2), Claim(QUEUES[:1], 3)])
        first, second = [
            await storage.exchange(
                worker.id,
                [
                    Settlement(self.runs[turn][side].id, self.runs[turn][side].lease, **option)
                    for turn, option in zip(chosen, options, strict=True)
                ],
                claim,
            )
            for side, storage in enumerate(self.storages)
        ]
        assert first.settled == second.settled
        assert first.alive == second.alive
        assert [plain(job) for job in first.claimed] == [plain(job) for job in second.claimed]
        self.runs += zip(first.claimed, second.claimed, strict=True)
        # Old leases are kept for a while, to be named again when they are over.
        del self.runs[:-12]

    async def control(self) -> None:
        await self.both(self.draw.choice(["abort", "retry", "retry", "disable", "enable", "enable"]), self.some())

    async def remove(self) -> None:
        await self.both("delete", self.some(1))
        if self.draw.random() < 0.05:
            await self.both("clear", self.draw.choice(QUEUES))

    async def abort_run(self) -> None:
        if self.draw.random() < 0.3:
            await self.both("abort_run", self.draw.choice(["run 1", "run 3"]))

    async def upkeep(self) -> None:
        self.clock.advance(self.draw.choice([0.0, 1.0, 8.0, 25.0]))
        await self.both("promote", self.draw.choice([1, 1000]))
        await self.both("rescue")
        if self.draw.random() < 0.2:
            kept = Retention(completed=self.draw.choice([0.0, 20.0, None]), failed=50.0, aborted=0.0)
            await self.both("set_retention", {self.draw.choice(QUEUES): kept})
            await self.both("prune")

    async def register(self) -> None:
        await self.both("register", self.draw.choice(self.workers))
        worker = self.draw.choice(self.workers)
        await self.both("lead", worker.id, 10.0)

    async def report(self) -> None:
        worker = self.draw.choice(self.workers)
        turns = self.draw.sample(range(len(self.runs)), min(len(self.runs), 3))
        progress = Progress(percent=self.draw.randint(0, 100), message="half", details={"n": [1]})
        answers = [
            (
                await storage.progress(
                    worker.id,
                    [
                        ProgressReport(
                            id=self.runs[turn][side].id, lease=self.runs[turn][side].lease, progress=progress
                        )
                        for turn in turns
                    ],
                ),
                await storage.held(
                    worker.id, [(self.runs[turn][side].id, self.runs[turn][side].lease) for turn in turns]
                ),
                [plain(job) for job in await storage.adopt(worker.id, [])],
            )
            for side, storage in enumerate(self.storages)
        ]
        assert answers[0] == answers[1]

    async def compare(self) -> None:
        records = [[plain(record) for record in await storage.get(self.ids)] for storage in self.storages]
        assert records[0] == records[1]
        await self.both("peek", self.some())
        await self.both("counts")
        await self.both("counts", "mail")
        for fingerprint in (b"0123456789abcdef", b"none"):
            await self.both("output_for", "mail", "send", fingerprint)
        draw = self.draw
        wanted = JobFilter(
            queue=draw.choice([None, "mail"]),
            states=frozenset(draw.sample(list(JobState), draw.randint(0, 3))),
            kinds=draw.choice([(), ("send",), KINDS]),
            tags=draw.choice([(), ("x",), ("y", "x")]),
            run_id=draw.choice([None, None, "run 1"]),
        )
        after = draw.choice([None, *self.some(1)])
        pages = [await storage.find(wanted, after=after, limit=7) for storage in self.storages]
        assert [plain(job) for job in pages[0].jobs] == [plain(job) for job in pages[1].jobs], wanted
        assert pages[0].cursor == pages[1].cursor


def plain(value: Any) -> Any:
    """Return a claim or a record as a dict without what may differ: the number of a lease."""
    if value is None:
        return None
    fields = attrs.asdict(value)
    fields.pop("lease")
    for attempt in fields.get("attempts", ()):
        attempt.pop("lease")
    return fields


@pytest.mark.parametrize("seed", range(12))
async def test_sqlite_answers_as_memory_does(seed: int) -> None:
    clock = ManualClock(1_800_000_000.0)
    with tempfile.TemporaryDirectory() as folder:
        memory = MemoryQueueStorage(clock=clock)
        sqlite = SqliteQueueStorage(Path(folder) / "jobs.db")
        sqlite._clock = clock
        async with memory, sqlite:
            life = Life(seed, (memory, sqlite), clock)
            for worker in life.workers:
                await life.both("register", worker)
            steps = [life.add, life.exchange, life.exchange, life.exchange, life.control, life.control, life.remove]
            steps += [life.abort_run, life.upkeep, life.register, life.report]
            for _ in range(250):
                await life.draw.choice(steps)()
                await life.compare()
