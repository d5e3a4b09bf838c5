"""The notifier: who listens to which topic in this process, and who is rung for.

A commit of this process rings at once. What other processes commit is found by the watcher, through the counters of
rings in the file. Each ring has a number, so that none is rung twice, whoever sees it first.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from jobq_core.errors import ClosedError
from jobq_core.storage import Subscription

Baseline = Callable[[Iterable[str]], Awaitable[Mapping[str, int]]]


class Notifier:
    """The ears of one storage object. Rung on the event loop; the watcher reads what is listened to from its thread.

    baseline: reads how often topics rang so far.
    """

    def __init__(self, baseline: Baseline, attend: Callable[[bool], None]) -> None:
        self.baseline = baseline
        self._attend = attend
        self._lock = threading.Lock()
        self._ears: dict[str, set[SqliteSubscription]] = {}
        self._seen: dict[str, int] = {}
        self._waiting = 0
        self._closed = False

    def listen(self, ear: SqliteSubscription) -> None:
        """Let an ear hear its topics from now on."""
        with self._lock:
            if self._closed:
                raise ClosedError("the SQLite storage is closed")
            for topic in ear.topics:
                self._ears.setdefault(topic, set()).add(ear)

    def leave(self, ear: SqliteSubscription) -> None:
        """Let an ear hear no more."""
        with self._lock:
            for topic in ear.topics & self._ears.keys():
                self._ears[topic].discard(ear)
                if not self._ears[topic]:
                    del self._ears[topic]
                    self._seen.pop(topic, None)

    def begin(self, rings: Mapping[str, int]) -> None:
        """Note how often topics rang when an ear began to listen; where more is known already, that holds."""
        with self._lock:
            for topic in self._ears.keys() & rings.keys():
                self._seen.setdefault(topic, rings[topic])

    def forget(self) -> None:
        """Forget how often topics rang: another file counts anew."""
        with self._lock:
            self._seen.clear()

    def listened(self) -> list[str]:
        """Return the topics that anybody listens to."""
        with self._lock:
            return list(self._ears)

    def news(self, rings: Mapping[str, int]) -> list[str]:
        """Return the topics whose numbers are new, and note them."""
        with self._lock:
            new = [topic for topic in rings if topic in self._ears and rings[topic] > self._seen.get(topic, -1)]
            for topic in new:
                self._seen[topic] = rings[topic]
        return new

    def ring(self, topics: Iterable[str]) -> None:
        """Wake whoever listens to one of the topics; on the event loop."""
        for topic in topics:
            for ear in self._ears.get(topic, ()):
                ear.hear(topic)

    def ring_numbers(self, rings: Mapping[str, int]) -> None:
        """Ring for a commit of this process; on the event loop."""
        if self._ears:
            self.ring(self.news(rings))

    def wait_begins(self) -> None:
        """Have the watcher look while somebody waits."""
        self._waiting += 1
        if self._waiting == 1:
            self._attend(True)

    def wait_ends(self) -> None:
        """Let the watcher rest when nobody waits."""
        self._waiting -= 1
        if self._waiting == 0:
            self._attend(False)

    def close(self) -> None:
        """End all waiting with ClosedError."""
        with self._lock:
            self._closed = True
            ears = {ear for ears in self._ears.values() for ear in ears}
        for ear in ears:
            ear.shut()


class SqliteSubscription(Subscription):
    """An ear on the storage's event loop."""

    def __init__(self, notifier: Notifier, topics: Iterable[str]) -> None:
        self.topics = frozenset(topics)
        self._notifier = notifier
        self._rung: set[str] = set()
        self._closed = False
        self._awake = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._notifier.listen(self)
        try:
            self._notifier.begin(await self._notifier.baseline(self.topics))
        except BaseException:
            self._notifier.leave(self)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._notifier.leave(self)

    async def wait(self, timeout: float | None = None) -> frozenset[str]:
        """Wait until one of the topics rings; see `Subscription.wait`."""
        if rung := self._take():
            return rung
        self._notifier.wait_begins()
        try:
            async with asyncio.timeout(timeout):
                while not (rung := self._take()):
                    await self._awake.wait()
            return rung
        except TimeoutError:
            return self._take()
        finally:
            self._notifier.wait_ends()

    def hear(self, topic: str) -> None:
        """Note a ring and wake the waiter."""
        self._rung.add(topic)
        self._awake.set()

    def shut(self) -> None:
        """End the waiting with ClosedError."""
        self._closed = True
        self._awake.set()

    def _take(self) -> frozenset[str]:
        if self._closed:
            raise ClosedError("the storage was closed while its notifier was listened to")
        rung = frozenset(self._rung)
        self._rung.clear()
        self._awake.clear()
        return rung
