"""`LocalNotifier`: the part of notifications that every storage has, the subscriptions in this process.

A storage's own notifier subclasses it, and adds how notifications reach other processes, and come from them:

- After a commit, and for each notification that its listener receives, it calls `deliver`.
- `enter` may be extended to wait until a listener is connected, and `leave` to clean up.
- `wait_begins` and `wait_ends` may be overridden to let a watcher rest while no subscription waits.
- `close` ends all subscriptions; a storage that is opened again makes another notifier.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from jobq_core.errors import ClosedError
from jobq_core.storage import Subscription


class LocalNotifier:
    """The subscriptions of one storage object, by topic. They may belong to several event loops.

    `deliver`, `close` and `topics` may be used from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: dict[str, set[LocalSubscription]] = {}
        self._closed = False

    @property
    def topics(self) -> list[str]:
        """The topics that have a subscription."""
        with self._lock:
            return list(self._subscriptions)

    def subscribe(self, topics: Iterable[str]) -> LocalSubscription:
        """Return a subscription; it takes effect when it is entered."""
        return LocalSubscription(topics, self)

    async def enter(self, subscription: LocalSubscription) -> None:
        """Deliver to a subscription from now on. Raises ClosedError if the notifier is closed."""
        with self._lock:
            if self._closed:
                raise ClosedError("the storage is closed")
            for topic in subscription.topics:
                self._subscriptions.setdefault(topic, set()).add(subscription)

    def leave(self, subscription: LocalSubscription) -> None:
        """Stop delivering to a subscription. One that was not entered is ignored."""
        with self._lock:
            for topic in subscription.topics & self._subscriptions.keys():
                subscriptions = self._subscriptions[topic]
                subscriptions.discard(subscription)
                if not subscriptions:
                    del self._subscriptions[topic]

    def deliver(self, topics: Iterable[str]) -> None:
        """Notify the subscriptions to any of these topics."""
        if not self._subscriptions:
            return
        with self._lock:
            found = [(each, topic) for topic in topics for each in self._subscriptions.get(topic, ())]
        for subscription, topic in found:
            if not subscription.deliver(topic):
                self.leave(subscription)

    def wait_begins(self) -> None:
        """Take note that a subscription begins to wait; called on its event loop."""

    def wait_ends(self) -> None:
        """Take note that a subscription no longer waits; called on its event loop."""

    def close(self) -> None:
        """End all subscriptions: their waiters get ClosedError, now and later."""
        with self._lock:
            self._closed = True
            subscriptions = set().union(*self._subscriptions.values())
            self._subscriptions.clear()
        for subscription in subscriptions:
            subscription.close()


class LocalSubscription(Subscription):
    """A subscription of one event loop, notified from any thread."""

    def __init__(self, topics: Iterable[str], notifier: LocalNotifier) -> None:
        self.topics = frozenset(topics)
        self._notifier = notifier
        self._lock = threading.Lock()
        self._notified: set[str] = set()
        self._closed = False
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._notifier.enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._notifier.leave(self)

    async def wait(self, timeout: float | None = None) -> frozenset[str]:
        if topics := self._take():
            return topics
        self._notifier.wait_begins()
        try:
            async with asyncio.timeout(timeout):
                while not (topics := self._take()):
                    await self._changed.wait()
            return topics
        except TimeoutError:
            return self._take()
        finally:
            self._notifier.wait_ends()

    def deliver(self, topic: str) -> bool:
        """Store a notification and wake the waiter. Returns False if the subscription's event loop is closed."""
        with self._lock:
            self._notified.add(topic)
        return self._wake()

    def close(self) -> None:
        """Make the present wait, and all later ones, raise ClosedError."""
        with self._lock:
            self._closed = True
        self._wake()

    def _wake(self) -> bool:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            self._changed.set()
            return True
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._changed.set)
        except RuntimeError:
            # A subscription that was left behind on a closed event loop must not fail the sender.
            if not self._loop.is_closed():
                raise
            return False
        return True

    def _take(self) -> frozenset[str]:
        self._changed.clear()
        with self._lock:
            if self._closed:
                raise ClosedError("the storage was closed while a subscription was open")
            topics = frozenset(self._notified)
            self._notified.clear()
        return topics
