"""Random operations on the storage and on memory storage: after each step both answer the same."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import AttemptRecord, JobRecord, Progress, WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import (
    UNFIT_ARGUMENTS,
    UNKNOWN_KIND,
    Change,
    Claim,
    ClaimedJob,
    JobFilter,
    NewJob,
    ProgressReport,
    QueueOptions,
    QueueStorage,
    Retention,
    SettleAndClaimResult,
    Settlement,
)
from jobq_core.testing.clock import ManualClock
from jobq_core.testing.contract.base import ContractBase
from jobq_core.testing.helpers import ERROR, new_job, worker_info

QUEUES = ("a", "b")
STRIDE = 100.0
"""Seconds by which the clocks are moved. Delays end halfway between two moves, so that no job is due too
early on a clock that also runs by itself."""
DELAYS = (50.0, 150.0, 350.0)
ENDINGS = [*Ending, Ending.COMPLETE, Ending.RETRY]


class Lives:
    """Draws random steps and does each in both storages. Each storage has its own lease numbers."""

    def __init__(self, seed: int, advance: Callable[[float], Awaitable[None]], *storages: QueueStorage) -> None:
        self.draw = random.Random(seed)
        self.advance = advance
        self.storages = storages
        self.jobs: list[UUID] = []
        self.workers = [worker_info(queues=QUEUES, lost_after=90.0) for _ in range(3)]
        # The runs that each worker remembers, the last one at the end; in the one storage and in the other.
        self.runs: dict[UUID, list[tuple[ClaimedJob, ClaimedJob]]] = {worker.id: [] for worker in self.workers}
        self.times = 0
        self.steps = (
            [self.add] * 4
            + [self.settle_and_claim] * 8
            + [self.control] * 5
            + [self.alter] * 5
            + [self.pass_time] * 2
            + [self.begin_run] * 3
            + [self.report, self.lose_worker, self.abort_run, self.clear, self.retain]
            + [self.pause, self.admit, self.end]
        )

    async def begin(self) -> None:
        """Register the workers."""
        for worker in self.workers:
            await self._both("register", worker)

    async def step(self) -> None:
        """Do one step, and check that both storages have the same counts."""
        step = self.draw.choice(self.steps)
        await step()
        for queue in QUEUES:
            await self._both("counts", queue)

    async def compare(self) -> None:
        """Check that both storages have the same record of every job."""
        for some in (JobFilter(), JobFilter(queue="a", tags=("x",)), JobFilter(run_id="r", states={JobState.FAILED})):
            one, two = [[job.id for job in (await storage.find(some, limit=10_000)).jobs] for storage in self.storages]
            assert one == two
            records = [await storage.get(one) for storage in self.storages]
            assert [essence(record) for record in records[0] if record] == [
                essence(record) for record in records[1] if record
            ]
        for queue in QUEUES:
            outputs = [await storage.output_for(queue, "noop", bytes(16)) for storage in self.storages]
            found, expected = [output and (output.id, output.result_json) for output in outputs]
            assert found == expected

    # The steps

    async def add(self) -> None:
        """Add some jobs, sometimes one of them again."""
        batch = [self._job() for _ in range(self.draw.randint(1, 4))]
        added = await self._both("add", batch)
        self.jobs += [each.id for each in added if each.created]

    async def settle_and_claim(self) -> None:
        """Settle present and past runs of a worker, and claim another job."""
        worker = self.draw.choice(self.workers)
        runs = self.runs[worker.id]
        settled: list[tuple[ClaimedJob, ClaimedJob]] = []
        if runs:
            settled = [runs[-1] if self.draw.random() < 0.8 else self.draw.choice(runs)]
        ending = self.draw.choice(ENDINGS)
        when = self.draw.choice([None, *DELAYS]) if ending in (Ending.RETRY, Ending.RELEASE, Ending.SNOOZE) else None
        reason = "full" if ending is Ending.RELEASE and when is not None else None
        if ending is Ending.SUSPEND:
            reason = self.draw.choice([UNKNOWN_KIND, UNFIT_ARGUMENTS])
        declaration = self.draw.choice(["1", "2"]) if reason == UNFIT_ARGUMENTS else None
        result = b"%d" % self.draw.randint(0, 9) if ending is Ending.COMPLETE else None
        # A worker runs one job at a time here: the order of several that are rescued at once is not promised.
        holds = await self._held(worker)
        free = not holds or (bool(settled) and settled[0] is runs[-1])
        kinds = (("noop", self.draw.choice(["1", "2", "3"])),) if self.draw.random() < 0.3 else ()
        # The order in which jobs of several queues are freed is not promised.
        queues = self.draw.choice([QUEUES, QUEUES[::-1], QUEUES[:1]] if not kinds else [QUEUES[:1], QUEUES[1:]])
        claim = Claim.of(*queues, limit=1, kinds=kinds) if free else None
        answers: list[SettleAndClaimResult] = []
        for n, storage in enumerate(self.storages):
            settlements = [
                Settlement(
                    run[n].id,
                    run[n].lease,
                    ending,
                    result,
                    None if result else ERROR,
                    when,
                    reason,
                    declaration=declaration,
                )
                for run in settled
            ]
            answers.append(await storage.settle_and_claim(worker.id, settlements, claim))
        one, two = answers
        assert one.settled == two.settled
        assert (one.alive, one.freed, set(one.paused)) == (two.alive, two.freed, set(two.paused))
        for claimed, twin in zip(one.claimed, two.claimed, strict=True):
            assert essence_of_run(claimed) == essence_of_run(twin)
            runs.append((claimed, twin))

    async def control(self) -> None:
        """Change a job, which may be deleted already."""
        operation = self.draw.choice(["abort", "disable", "enable", "enable", "retry", "retry", "delete"])
        if operation in ("enable", "retry"):
            # The order of several that become PENDING at once is not promised.
            ids = self.draw.sample(self.jobs, 1) if self.jobs else []
        else:
            ids = [self.draw.choice([*self.jobs, new_id()]) for _ in range(self.draw.randint(0, 3))]
        await self._both(operation, ids)

    async def alter(self) -> None:
        """Change what a job waits for. The order of several that become PENDING at once is not promised."""
        ids = [self.draw.choice([*self.jobs, new_id()])]
        operation = self.draw.choice(["run_now", "reschedule", "move", "move", "set_priority"])
        if operation == "run_now":
            await self._both(operation, ids)
        elif operation == "reschedule":
            # At no time do two of these jobs become due at once: their order is not promised.
            self.times += 1
            delay = self.draw.choice([-50.0, *DELAYS]) + self.times / 1000
            await self._both(operation, ids, await self.storages[1].now() + timedelta(seconds=delay))
        elif operation == "move":
            await self._both(operation, ids, self.draw.choice(QUEUES))
        else:
            await self._both(operation, ids, self.draw.choice([0, 5, -5]))

    async def abort_run(self) -> None:
        """Abort the jobs of a run."""
        changes: list[list[Change]] = [await storage.abort_run("r") for storage in self.storages]
        one, two = ({change.id: change for change in answer} for answer in changes)
        assert one == two

    async def clear(self) -> None:
        """Clear a queue, sometimes."""
        if self.draw.random() < 0.2:
            await self._both("clear", self.draw.choice(QUEUES))

    async def report(self) -> None:
        """Report progress of a run, which may have ended."""
        worker = self.draw.choice(self.workers)
        if not self.runs[worker.id]:
            return
        run = self.draw.choice(self.runs[worker.id])
        progress = Progress(percent=self.draw.randint(0, 100), details=[self.draw.randint(0, 9)])
        answers = [
            await storage.progress(worker.id, [ProgressReport(id=each.id, lease=each.lease, progress=progress)])
            for storage, each in zip(self.storages, run, strict=True)
        ]
        assert answers[0] == answers[1]

    async def begin_run(self) -> None:
        """Mark the start of a run, which may have ended."""
        worker, other = self.draw.choice(self.workers), self.draw.choice(self.workers)
        if not self.runs[worker.id]:
            return
        run = self.draw.choice([self.runs[worker.id][-1], self.draw.choice(self.runs[worker.id])])
        answers = [
            await storage.mark_started(other.id, [(each.id, each.lease)])
            for storage, each in zip(self.storages, run, strict=True)
        ]
        assert answers[0] == answers[1]

    async def pass_time(self) -> None:
        """Let time pass, renew all workers, and promote due jobs."""
        await self.advance(STRIDE)
        for worker in self.workers:
            await self._both("register", worker)
        promotions = [await storage.promote() for storage in self.storages]
        assert promotions[0].promoted == promotions[1].promoted
        assert (promotions[0].next_in is None) is (promotions[1].next_in is None)

    async def lose_worker(self) -> None:
        """Let a worker miss its heartbeat and rescue its job; another worker takes its place."""
        lost = self.workers.pop(self.draw.randrange(len(self.workers)))
        await self.advance(STRIDE)
        for worker in self.workers:
            await self._both("register", worker)
        one, two = [(await storage.rescue()).workers for storage in self.storages]
        assert [(each.worker, each.name, each.jobs) for each in one] == [
            (each.worker, each.name, each.jobs) for each in two
        ]
        assert [each.worker for each in one] == [lost.id]
        heir = worker_info(queues=QUEUES, lost_after=90.0)
        await self._both("register", heir)
        self.workers.append(heir)
        # The new worker sends the settlements of the lost one: a lease counts, whichever worker names it.
        self.runs[heir.id] = self.runs.pop(lost.id)

    async def retain(self) -> None:
        """Set a retention, and prune."""
        kept = [self.draw.choice([None, 250.0, 650.0, 86_400.0]) for _ in range(3)]
        retention = Retention(completed=kept[0], failed=kept[1], aborted=kept[2])
        await self._both("set_queue", self.draw.choice(QUEUES), QueueOptions(retention=retention))
        await self._both("prune")

    async def pause(self) -> None:
        """Pause a queue, or end its pause."""
        paused = self.draw.random() < 0.4
        await self._both("set_queue", self.draw.choice(QUEUES), QueueOptions(paused=paused))

    async def admit(self) -> None:
        """Admit a job, which may wait for something else."""
        await self._both("admit", self.draw.sample(self.jobs, 1) if self.jobs else [])

    async def end(self) -> None:
        """Let jobs expire, and take the ends of followed jobs."""
        expired = [await storage.expire() for storage in self.storages]
        assert expired[0].count == expired[1].count
        assert (expired[0].next_in is None) is (expired[1].next_in is None)
        ended = [
            sorted((end.id, end.queue, end.state or "") for end in await storage.resolve()) for storage in self.storages
        ]
        assert ended[0] == ended[1]

    # Helpers

    async def _both(self, operation: str, *arguments: Any) -> Any:
        one, two = [await getattr(storage, operation)(*arguments) for storage in self.storages]
        assert one == two, operation
        return two

    async def _held(self, worker: WorkerInfo) -> list[UUID]:
        one, two = [sorted(job.id for job in await storage.recover_claims(worker.id, [])) for storage in self.storages]
        assert one == two
        return two

    def _job(self) -> NewJob:
        draw = self.draw
        again = bool(self.jobs) and draw.random() < 0.1
        return new_job(
            id=draw.choice(self.jobs) if again else new_id(),
            queue=draw.choice(QUEUES),
            arguments=b'{"n":%d}' % draw.randint(0, 9),
            priority=draw.choice([0, 0, 0, 5, -5]),
            run_at=draw.choice([None, None, 0.0, *DELAYS]),
            max_attempts=draw.choice([1, 2, 10]),
            unique_key=draw.choice([None, None, "k", "l"]),
            run_id=draw.choice([None, "r"]),
            tags=draw.choice([(), ("x",), ("y", "x")]),
            fingerprint=draw.choice([None, bytes(16)]),
            gated=draw.random() < 0.2,
            followed=draw.random() < 0.2,
            deadline=draw.choice([None, None, *DELAYS]),
        )


def essence_of_run(job: ClaimedJob) -> tuple[Any, ...]:
    """Return the part of a claimed job that is the same in both storages."""
    return job.id, job.queue, job.kind, job.arguments, job.attempt, job.max_attempts, job.priority, job.run_id, job.tags


def essence(record: JobRecord) -> tuple[Any, ...]:
    """Return the part of a record that is the same in both storages: no lease numbers, times and error texts."""
    running = record.state is JobState.PROCESSING
    waiting = record.state in (JobState.SCHEDULED, JobState.BLOCKED)
    return (
        (record.id, record.kind, record.queue, record.state, record.priority, record.arguments_json),
        (record.attempt, record.max_attempts, record.run_id, record.tags, record.unique_key, record.result_json),
        (record.stop_request, record.worker if running else None, record.progress if running else None),
        (record.run_at is not None, record.reason) if waiting else None,
        (record.finished_at is not None, record.error and kind_of(record.error.type)) if record.finished else None,
        [essence_of_attempt(attempt) for attempt in record.attempts],
    )


def essence_of_attempt(attempt: AttemptRecord) -> tuple[Any, ...]:
    """Return the part of an attempt that is the same in both storages."""
    return attempt.number, attempt.worker, kind_of(attempt.error.type)


def kind_of(name: str) -> str:
    """Return the last part of a qualified name."""
    return name.rpartition(".")[2]


class ReferenceContract(ContractBase):
    """The storage answers as the reference does, for random operations in random order."""

    @pytest.mark.parametrize("seed", range(5))
    async def test_random_lives_of_jobs_go_as_in_memory(self, storage: QueueStorage, seed: int) -> None:
        clock = ManualClock((await storage.now()).timestamp())

        async def advance(seconds: float) -> None:
            clock.advance(seconds)
            await self.advance(storage, seconds)

        async with MemoryQueueStorage(clock=clock) as memory:
            lives = Lives(seed, advance, storage, memory)
            await lives.begin()
            for _ in range(150):
                await lives.step()
            await lives.compare()
