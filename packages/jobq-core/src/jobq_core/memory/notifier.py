"""`MemoryNotifier`: notifications between the storage objects of one name."""

from __future__ import annotations

from jobq_core.local_notifier import LocalNotifier, LocalSubscription
from jobq_core.memory.store import Store


class MemoryNotifier(LocalNotifier):
    """The subscriptions of one storage object. It is among the store's notifiers only while it has any."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    async def enter(self, subscription: LocalSubscription) -> None:
        await super().enter(subscription)
        with self._store.lock:
            self._store.notifiers.add(self)

    def leave(self, subscription: LocalSubscription) -> None:
        super().leave(subscription)
        with self._store.lock:
            if not self.topics:
                self._store.notifiers.discard(self)

    def close(self) -> None:
        super().close()
        with self._store.lock:
            self._store.notifiers.discard(self)
