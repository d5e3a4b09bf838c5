"""A process's connection to the storage: the weather decides when a call takes effect and when it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from jobq_core import StorageUnavailableError
from jobq_core.local_notifier import LocalNotifier
from jobq_core.memory.store import Store
from jobq_core.records import WorkerInfo, WorkerStats
from jobq_core.storage import Heartbeat, QueueStorage, Subscription

from .process import Process
from .truth import BY_CLIENTS, Truth
from .weather import Weather
from .world import Lane, Step, World


class Channel(QueueStorage):
    """The storage as seen by one process."""

    def __init__(
        self, process: Process, truth: Truth, weather: Weather, notifier: SimulatedNotifier, server: Lane
    ) -> None:
        self._process = process
        self._world = process.world
        self._truth = truth
        self._weather = weather
        self._notifier = notifier
        self._server = server

    @classmethod
    def from_url(cls, url: str) -> Self:
        raise NotImplementedError

    @property
    def url(self) -> str:
        return "memory://simulated"

    async def open(self) -> None:
        """Do nothing: the storage is always open."""

    async def close(self) -> None:
        """Do nothing."""

    async def migrate(self, phase: Literal["pre", "post", "all"] = "all") -> list[str]:
        return []

    def migration_sql(self) -> str:
        return ""

    async def ask(self, name: str, *args: Any, **options: Any) -> Any:
        """Call an operation of the storage and wait for its answer."""
        future = self._process.loop.create_future()

        def answer(result: Any) -> None:
            if future.done():  # the caller was cancelled
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.send(self._process.loop.lane, name, lambda: self._truth.perform(name, args, options), answer)
        return await future

    def send(self, lane: Lane, name: str, effect: Callable[[], Any], answer: Callable[[Any], None]) -> None:
        """Send a call to the storage, and call `answer` with its result in a lane of the process."""
        if self._process.dead:
            return
        world, name_of = self._world, self._process.name
        fate = self._weather.fate(name_of)
        truth = self._truth

        def take_effect() -> None:
            truth.asking = name_of
            truth.asked_under_way -= name in BY_CLIENTS
            try:
                result = effect()
            except Exception as error:  # noqa: BLE001  (the error is the answer)
                result = error
            if fate.answered:
                world.at(answered, lane, Step(answer, result))
            else:
                world.note(name_of, f"{name} takes effect; its answer is lost")

        def refuse() -> None:
            if fate.effect is None:
                world.note(name_of, f"{name} is refused")
            answer(StorageUnavailableError(f"simulated: {name}"))

        answered = world.now + fate.answer
        if fate.effect is not None:
            truth.asked_under_way += name in BY_CLIENTS
            world.at(world.now + fate.effect, self._server, Step(take_effect))
        if not fate.answered:
            world.at(answered, lane, Step(refuse))

    def heartbeat(self, worker: WorkerInfo) -> Heartbeat:
        return SimulatedHeartbeat(self, self._process, self._truth, worker)

    def subscribe(self, topics: Iterable[str]) -> Subscription:
        return SimulatedSubscription(self, self._process, self._notifier, topics)


def _operation(name: str) -> Callable[..., Awaitable[Any]]:
    async def operation(self: Channel, *args: Any, **options: Any) -> Any:
        return await self.ask(name, *args, **options)

    operation.__name__ = name
    return operation


for _name in sorted(QueueStorage.__abstractmethods__ & Channel.__abstractmethods__):
    setattr(Channel, _name, _operation(_name))
Channel.__abstractmethods__ = frozenset()


class SimulatedHeartbeat(Heartbeat):
    """A heartbeat whose beats are calls through the channel, in the lane of the process's heartbeat thread."""

    def __init__(self, channel: Channel, process: Process, truth: Truth, worker: WorkerInfo) -> None:
        self._channel = channel
        self._process = process
        self._truth = truth
        self._worker = worker

    def beat(self, stats: WorkerStats) -> bool:
        raise NotImplementedError("a simulated thread cannot wait; call ask instead")

    def ask(self, stats: WorkerStats, answer: Callable[[Any], None]) -> None:
        """Send a beat; `answer` is called with the result later."""
        self._channel.send(self._process.thread, "beat", lambda: self._truth.beat(self._worker, stats), answer)

    def close(self) -> None:
        """Do nothing: the heartbeat holds no resource."""


class SimulatedNotifier(LocalNotifier):
    """Replaces the memory storage's notifier: a notification reaches a subscription within 3 ms, or never."""

    def __init__(self, world: World, weather: Weather, store: Store) -> None:
        super().__init__()
        self._world = world
        self._weather = weather
        self.subscriptions: list[SimulatedSubscription] = []
        store.notifiers.add(self)

    def deliver(self, topics: Iterable[str]) -> None:
        """Notify the subscriptions to any of the topics."""
        delivered = set(topics)
        for subscription in self.subscriptions:
            for topic in subscription.topics:
                if topic in delivered and self._weather.notifies(subscription.process.name):
                    self._world.at(
                        self._world.now + 0.003 * self._world.random.random(),
                        subscription.process.loop.lane,
                        Step(subscription.notify, topic),
                    )


class SimulatedSubscription(Subscription):
    """A process's subscription to the simulated notifier."""

    def __init__(self, channel: Channel, process: Process, notifier: SimulatedNotifier, topics: Iterable[str]) -> None:
        self._channel = channel
        self._notifier = notifier
        self._notified: set[str] = set()
        self._awake = asyncio.Event()
        self.process = process
        self.topics: Sequence[str] = sorted(topics)

    async def __aenter__(self) -> Self:
        await self._channel.ask("now")
        self._notifier.subscriptions.append(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self in self._notifier.subscriptions:
            self._notifier.subscriptions.remove(self)

    def notify(self, topic: str) -> None:
        """Record a notification and wake the waiting task."""
        self._notified.add(topic)
        self._awake.set()

    async def wait(self, timeout: float | None = None) -> frozenset[str]:
        try:
            async with asyncio.timeout(timeout):
                while not self._notified:
                    await self._awake.wait()
                    self._awake.clear()
        except TimeoutError:
            pass
        notified = frozenset(self._notified)
        self._notified.clear()
        return notified
