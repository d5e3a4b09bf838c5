"""Time that a test moves: `ManualClock`, and `ManualClockStorage`, whose jobs become due by it."""

from __future__ import annotations

import time
from datetime import datetime
from types import TracebackType
from typing import Self

from jobq_core.checks import Seconds, to_seconds
from jobq_core.memory import MemoryQueueStorage
from jobq_core.memory.storage import forget
from jobq_core.storage import WAITING_TOPIC
from jobq_core.testing.without_loop import run_to_end
from jobq_core.timestamps import SECOND, to_datetime


class ManualClock:
    """Seconds since 1970, for `MemoryQueueStorage(clock=…)`. start: the first time (default: this machine's).

    It counts whole microseconds, as storages do: sums of floats would be off by one.
    """

    def __init__(self, start: float | None = None) -> None:
        self._now = round((time.time() if start is None else start) * SECOND)

    def __call__(self) -> float:
        return self._now / SECOND

    def now(self) -> datetime:
        """Return the time as an aware datetime."""
        return to_datetime(self._now)

    def advance(self, by: Seconds) -> None:
        """Move the clock forward, or back by a negative time. by: seconds, or a timedelta."""
        self._now += round(to_seconds(by) * SECOND)


class NotifyingClock(ManualClock):
    """The clock of a `ManualClockStorage`; each advance notifies the workers on this storage.

    storage: the storage.
    """

    def __init__(self, start: float | None, storage: ManualClockStorage) -> None:
        super().__init__(start)
        self._storage = storage

    def advance(self, by: Seconds) -> None:
        """Move the clock forward: delayed jobs, retries and deadlines up to then are due. by: seconds, or a timedelta.

        A running worker notices it without a sleep. Its leases and heartbeats go by real time.
        """
        super().advance(by)
        self._storage.notify_workers()


class ManualClockStorage(MemoryQueueStorage):
    """Memory storage for tests, whose time moves by `storage.clock.advance(60)` and by nothing else.

    Use it with `async with`, with `with` in tests without an event loop, or with `open` and `close`.

    name: until it is closed, clients and workers of the URL `memory://name` share its jobs and its clock.
    start: the first time, in seconds since 1970 (default: this machine's).

    Its operations, and those of the clients that share its jobs, take any `connection` and act at once: a rollback does
    not undo them.
    """

    def __init__(self, name: str | None = None, *, start: float | None = None) -> None:
        self.clock = NotifyingClock(start, self)
        super().__init__(name, clock=self.clock, lease_clock=time.monotonic, takes_connections=True)

    def notify_workers(self) -> None:
        """Have the workers on this storage look for jobs that are due."""
        with self._store.lock:
            notifiers = tuple(self._store.notifiers)
        for notifier in notifiers:
            notifier.deliver((WAITING_TOPIC,))

    async def close(self) -> None:
        """End all subscriptions, and free the name; the jobs stay."""
        await super().close()
        if self._name is not None:
            forget(self._name)

    def __enter__(self) -> Self:
        run_to_end(self.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run_to_end(self.close())
