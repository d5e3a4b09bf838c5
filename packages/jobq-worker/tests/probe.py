"""A memory storage that counts what is asked of it, and fails where a test wants it to."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

from jobq_core.errors import StorageError, StorageUnavailableError
from jobq_core.local_notifier import LocalSubscription
from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.storage import Heartbeat, Settlement, WorkerRequest

OPERATIONS = (
    "settle_and_claim", "mark_started", "check_leases", "recover_claims", "progress",
    "register", "deregister", "lead", "resign", "promote", "expire", "rescue",
    "resolve", "prune", "set_queue", "worker_requests", "answer_request", "write_logs",
)  # fmt: skip


class Probe(MemoryQueueStorage):
    """`fail` makes the next calls of an operation raise, before or after it took effect; `away` all calls at once; with
    `dice`, one call in seven raises, before or after."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: Counter[str] = Counter()
        self.beats = 0
        self.heart_answers = threading.Semaphore(0)
        self.hearts: list[ProbeHeart] = []
        self.subscriptions: list[LocalSubscription] = []
        self.away = False
        self.silent = False
        self.deaf = False
        self.dice: Random | None = None
        self.listening = 0
        self.arguments: dict[str, list[tuple[Any, ...]]] = {name: [] for name in OPERATIONS}
        self._faults: dict[str, list[tuple[bool, StorageError]]] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._watched: list[tuple[str, Callable[[], bool], asyncio.Future[None]]] = []

    def fail(self, operation: str, times: int = 1, *, after: bool = False, error: StorageError | None = None) -> None:
        """Let the next calls raise, before it did anything or after it did all."""
        fault = (after, error or StorageUnavailableError("the connection broke"))
        self._faults.setdefault(operation, []).extend([fault] * times)

    def hold(self, operation: str) -> asyncio.Event:
        """Let the calls wait, once they took effect, until the returned event is set."""
        return self._gates.setdefault(operation, asyncio.Event())

    def settlements_of(self, job_id: UUID) -> list[Settlement]:
        """Return every settlement of this job that any exchange carried."""
        carried = (settlement for args in self.arguments["settle_and_claim"] if len(args) > 1 for settlement in args[1])
        return [settlement for settlement in carried if settlement.id == job_id]

    async def called(self, operation: str, times: int = 1) -> None:
        """Wait until the operation has been called this often from now on."""
        if times < 1:
            return
        wanted = self.calls[operation] + times
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watched.append((operation, lambda: self.calls[operation] >= wanted, future))
        await future

    def check(self, operation: str) -> None:
        """Raise if the storage is away."""
        if self.away:
            self.calls[f"{operation} failed"] += 1
            raise StorageUnavailableError("no connection")

    async def ask(self, name: str, operation: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        self.calls[name] += 1
        self.arguments[name].append(args)
        for entry in list(self._watched):
            if entry[1]() and not entry[2].done():
                entry[2].set_result(None)
                self._watched.remove(entry)
        self.check(name)
        faults = self._faults.get(name)
        after, error = faults.pop(0) if faults else (False, None)
        if error is None and self.dice is not None and self.dice.random() < 0.15:
            after, error = self.dice.random() < 0.5, StorageUnavailableError("bad luck")
        if error is not None and not after:
            raise error
        answer = await operation(self, *args, **named)
        if name in self._gates:
            await self._gates[name].wait()
        if error is not None:
            raise error
        return answer

    def heartbeat(self, worker: WorkerInfo) -> Heartbeat:
        heartbeat = ProbeHeart(self, super().heartbeat(worker))
        self.hearts.append(heartbeat)
        return heartbeat

    def subscribe(self, topics: Any) -> LocalSubscription:
        self.check("subscribe")
        if self.silent:
            raise StorageUnavailableError("no notifications here")
        subscription = super().subscribe(topics)
        self.subscriptions.append(subscription)
        return subscription

    @property
    def hears_notifications(self) -> bool:
        return not self.deaf

    def end_subscriptions(self) -> None:
        """End all subscriptions, as a listener does whose connection is lost for good."""
        for subscription in self.subscriptions:
            subscription.close()
        self.subscriptions.clear()


def _probed(name: str) -> Any:
    inner = getattr(MemoryQueueStorage, name)

    async def operation(self: Probe, *args: Any, **named: Any) -> Any:
        return await self.ask(name, inner, args, named)

    return operation


for _name in OPERATIONS:
    setattr(Probe, _name, _probed(_name))


class ProbeHeart(Heartbeat):
    """A heartbeat that counts its beats."""

    def __init__(self, storage: Probe, heartbeat: Heartbeat) -> None:
        self._storage = storage
        self._heart = heartbeat
        self.closed = False

    def beat(self, stats: WorkerStats) -> bool:
        self._storage.check("beat")
        faults = self._storage._faults.get("beat")
        if faults:
            raise faults.pop(0)[1]
        answer = self._heart.beat(stats)
        self._storage.beats += 1
        return answer

    def requests(self) -> list[WorkerRequest]:
        self._storage.check("requests")
        return self._heart.requests()

    def answer(self, id: UUID, answer: str) -> bool:
        stored = self._heart.answer(id, answer)
        self._storage.heart_answers.release()
        return stored

    def close(self) -> None:
        self.closed = True
        self._heart.close()
