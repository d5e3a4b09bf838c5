"""Notifications of one storage object: of its own commits at once, of other processes' through counts in the file.

Each notification of a topic has a number, so that it is delivered once, whether the writer or the change watcher sees
it first.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from jobq_core.local_notifier import LocalNotifier, LocalSubscription


class SqliteNotifier(LocalNotifier):
    """The subscriptions of one storage object, and the newest number of each topic that they have seen.

    waiting: set while a subscription waits; the change watcher rests meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()
        self._waiters = 0
        self._seen: dict[str, int] = {}
        self._seen_lock = threading.Lock()

    def begin(self, counts: Mapping[str, int]) -> None:
        """Note the counts that a subscription began with; a count that is known already is at least as new."""
        with self._seen_lock:
            for topic in counts.keys() & set(self.topics):
                self._seen.setdefault(topic, counts[topic])

    def leave(self, subscription: LocalSubscription) -> None:
        super().leave(subscription)
        with self._seen_lock:
            for topic in self._seen.keys() - set(self.topics):
                del self._seen[topic]

    def deliver_counts(self, counts: Mapping[str, int]) -> None:
        """Deliver the topics whose counts are new; from any thread."""
        topics = set(self.topics)
        if not topics:
            return
        with self._seen_lock:
            new = [topic for topic in topics & counts.keys() if counts[topic] > self._seen.get(topic, -1)]
            for topic in new:
                self._seen[topic] = counts[topic]
        self.deliver(new)

    def wait_begins(self) -> None:
        self._waiters += 1
        self.waiting.set()

    def wait_ends(self) -> None:
        self._waiters -= 1
        if self._waiters == 0:
            self.waiting.clear()
