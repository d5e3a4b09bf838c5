"""The doorbell between storage objects of one name, in whatever threads and event loops they live."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from jobq_core.errors import ClosedError
from jobq_core.storage import Subscription


class Bell:
    """Who listens to which topic."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ears: dict[str, set[MemorySubscription]] = {}

    def add(self, ear: MemorySubscription) -> None:
        """Let an ear hear its topics from now on."""
        with self._lock:
            for topic in ear.topics:
                self._ears.setdefault(topic, set()).add(ear)

    def remove(self, ear: MemorySubscription) -> None:
        """Let an ear hear no more; one that is not there is fine."""
        with self._lock:
            for topic in ear.topics:
                ears = self._ears.get(topic)
                if ears is not None:
                    ears.discard(ear)
                    if not ears:
                        del self._ears[topic]

    def ring(self, topics: Iterable[str]) -> None:
        """Tell everybody who listens to one of the topics; may be called from any thread."""
        heard: list[tuple[MemorySubscription, str]] = []
        with self._lock:
            for topic in topics:
                if topic in self._ears:
                    heard.extend((ear, topic) for ear in self._ears[topic])
        for ear, topic in heard:
            if not ear.hear(topic):
                self.remove(ear)


class MemorySubscription(Subscription):
    """An ear that lives on one event loop and is rung from any thread."""

    def __init__(self, bell: Bell, topics: Iterable[str], owner: set[MemorySubscription]) -> None:
        self.topics = frozenset(topics)
        self._bell = bell
        self._owner = owner
        self._lock = threading.Lock()
        self._rung: set[str] = set()
        self._closed = False
        self._awake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._owner.add(self)
        self._bell.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bell.remove(self)
        self._owner.discard(self)

    async def wait(self, timeout: float | None = None) -> frozenset[str]:
        """Wait until one of the topics rings; see `Subscription.wait`."""
        try:
            async with asyncio.timeout(timeout):
                while not (rung := self._take()):
                    await self._awake.wait()
                    self._awake.clear()
                return rung
        except TimeoutError:
            return self._take()

    def hear(self, topic: str) -> bool:
        """Note a ring and wake the waiter; False if the ear's loop is gone."""
        with self._lock:
            self._rung.add(topic)
        return self._wake()

    def shut(self) -> None:
        """End the waiting with ClosedError."""
        self._bell.remove(self)
        with self._lock:
            self._closed = True
        self._wake()

    def _wake(self) -> bool:
        if threading.get_ident() == self._thread:
            self._awake.set()
            return True
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._awake.set)
        except RuntimeError:
            # Whoever left the ear behind on a loop that ended must not break the one who rings.
            if not self._loop.is_closed():
                raise
            return False
        return True

    def _take(self) -> frozenset[str]:
        with self._lock:
            if self._closed:
                raise ClosedError("the storage was closed while its doorbell was listened to")
            rung = frozenset(self._rung)
            self._rung.clear()
        return rung
