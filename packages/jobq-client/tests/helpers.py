"""A storage that counts its calls and can be made to fail, and a worker that a test moves step by step."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

from jobq_core import ErrorRecord, JobRecord, JobState, Progress, StorageUnavailableError, WorkerInfo
from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.states import Ending
from jobq_core.storage import Added, Claim, ClaimedJob, JobStatus, NewJob, ProgressReport, Settlement, Subscription

T = TypeVar("T")

AWAY = "the line is cut"


async def until(condition: Callable[[], bool]) -> None:
    """Turn the event loop until the condition holds, or the test's time limit passes."""
    while not condition():  # noqa: ASYNC110  (it counts turns, not time)
        await asyncio.sleep(0)


class Probe(MemoryQueueStorage):
    """Memory storage that counts calls, holds them at a gate, and fails them before or after their effect."""

    def __init__(self, name: str | None = None, **options: Any) -> None:
        super().__init__(name, **options)
        self.calls: Counter[str] = Counter()
        self.added: list[list[NewJob]] = []
        self.status_reads: list[int] = []
        self.given_connections: list[Any] = []
        self.listening = 0
        self.silent = False
        self.hold_unique: asyncio.Event | None = None
        self.refuse: Callable[[NewJob], Exception | None] = lambda job: None
        self._failures: defaultdict[str, list[tuple[Exception, bool]]] = defaultdict(list)
        self._gates: dict[str, asyncio.Event] = {}
        self._gates_after: dict[str, asyncio.Event] = {}

    def fail(self, call: str, error: Exception | None = None, *, times: int = 1, after: bool = False) -> None:
        """Fail the next calls; with `after`, they have their effect and only the answer is lost."""
        self._failures[call] += [(error or StorageUnavailableError(AWAY), after)] * times

    def mend(self, call: str) -> None:
        """Stop failing."""
        self._failures[call].clear()

    def hold(self, call: str, *, after: bool = False) -> asyncio.Event:
        """Hold calls until the gate is set: before their effect, or between it and the answer."""
        gate = asyncio.Event()
        (self._gates_after if after else self._gates)[call] = gate
        return gate

    async def _through(self, call: str, work: Callable[[], Awaitable[T]]) -> T:
        self.calls[call] += 1
        if call in self._gates:
            await self._gates[call].wait()
        error, after = self._failures[call].pop(0) if self._failures[call] else (None, False)
        if error is not None and not after:
            raise error
        answer = await work()
        if call in self._gates_after:
            await self._gates_after[call].wait()
        if error is not None:
            raise error
        return answer

    async def add(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[Added]:
        self.added.append(list(jobs))
        self.given_connections.append(connection)

        async def work() -> list[Added]:
            if self.hold_unique is not None and any(job.unique_key is not None for job in jobs):
                await self.hold_unique.wait()
            for job in jobs:
                if (error := self.refuse(job)) is not None:
                    raise error
            return await MemoryQueueStorage.add(self, jobs)

        return await self._through("add", work)

    async def get_status(self, ids: Sequence[UUID]) -> list[JobStatus | None]:
        self.status_reads.append(len(ids))
        return await self._through("get_status", lambda: MemoryQueueStorage.get_status(self, ids))

    async def now(self) -> Any:
        return await self._through("now", lambda: MemoryQueueStorage.now(self))

    async def workers(self) -> Any:
        return await self._through("workers", lambda: MemoryQueueStorage.workers(self))

    def subscribe(self, topics: Iterable[str]) -> Any:
        self.calls["subscribe"] += 1
        return ProbeSubscription(self, super().subscribe(topics))


class ProbeSubscription(Subscription):
    """A subscription that the probe counts, and that gets no notification while the probe is silent."""

    def __init__(self, probe: Probe, real: Subscription) -> None:
        self._probe = probe
        self._real = real

    async def wait(self, timeout: float | None = None) -> frozenset[str]:
        if self._probe.silent:
            await asyncio.sleep(timeout or 0)
            return frozenset()

        return await self._probe._through("wait", lambda: self._real.wait(timeout))

    async def __aenter__(self) -> Self:
        await self._probe._through("enter", self._real.__aenter__)
        self._probe.listening += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._probe.listening -= 1
        await self._probe._through("exit", lambda: self._real.__aexit__(kind, error, trace))


class ManualWorker:
    """A worker that a test moves one step at a time."""

    def __init__(self, storage: MemoryQueueStorage, *queues: str, lost_after: float = 3600) -> None:
        self.storage = storage
        self.lost_after = lost_after
        self.queues = queues or ("default", "mail")
        self.id = new_id()

    async def register(self) -> Self:
        await self.storage.register(
            WorkerInfo(
                id=self.id,
                name="manual",
                host="h",
                pid=1,
                queues=self.queues,
                kinds=(),
                concurrency=1,
                lost_after=self.lost_after,
            )
        )
        return self

    async def claim(self, limit: int = 1000) -> list[ClaimedJob]:
        return (await self.storage.settle_and_claim(self.id, (), Claim.of(*self.queues, limit=limit))).claimed

    async def claim_one(self) -> ClaimedJob:
        (claimed,) = await self.claim(1)
        return claimed

    async def settle(self, job: ClaimedJob, ending: Ending, **more: Any) -> JobState | None:
        (state,) = (
            await self.storage.settle_and_claim(self.id, [Settlement(job.id, job.lease, ending, **more)])
        ).settled
        return state

    async def complete(self, job: ClaimedJob, result: bytes = b"null") -> None:
        assert await self.settle(job, Ending.COMPLETE, result=result) is JobState.COMPLETED

    async def fail(
        self, job: ClaimedJob, type: str = "ValueError", message: str = "", traceback: str | None = None
    ) -> None:
        error = ErrorRecord(type=type, message=message, traceback=traceback)
        assert await self.settle(job, Ending.FAIL, error=error) is JobState.FAILED

    async def run(self, result: bytes = b"null") -> ClaimedJob:
        """Claim the one job there is and complete it."""
        job = await self.claim_one()
        await self.complete(job, result)
        return job

    async def report(self, job: ClaimedJob, percent: float, message: str | None = None, details: Any = None) -> bool:
        progress = Progress(percent=percent, message=message, details=details)
        (stored,) = await self.storage.progress(
            self.id, [ProgressReport(id=job.id, lease=job.lease, progress=progress)]
        )
        return stored


async def record_of(storage: MemoryQueueStorage, job_id: UUID) -> JobRecord:
    (record,) = await storage.get([job_id])
    assert record is not None
    return record


async def total(storage: MemoryQueueStorage) -> int:
    """Return the number of jobs, in all queues and states."""
    return sum(sum(states.values()) for states in (await storage.counts()).values())
