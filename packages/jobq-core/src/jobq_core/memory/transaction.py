"""`MemoryTransactions`: what the parts of the memory storage stand on, the data and exclusive access to them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from jobq_core.errors import ClosedError, ConfigurationError
from jobq_core.local_notifier import LocalNotifier
from jobq_core.memory.store import Store


class MemoryTransactions:
    """A store, and a notifier while the storage is open. Each part of `MemoryQueueStorage` inherits from it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._notifier: LocalNotifier | None = None

    @contextmanager
    def _transaction(self) -> Generator[Store, None, None]:
        """Give exclusive access to the data, and notify the subscriptions after it. Raises ClosedError."""
        store = self._store
        with store.lock:
            self._open_notifier()
            try:
                yield store
            finally:
                topics, store.topics = store.topics, set()
                notifiers = tuple(store.notifiers) if topics else ()
        for notifier in notifiers:
            notifier.deliver(topics)

    def _open_notifier(self) -> LocalNotifier:
        if self._notifier is None:
            raise ClosedError("the memory storage is not open: use it inside `async with`, or call open() first")
        return self._notifier

    def _check_connection(self, connection: Any) -> None:
        """Raise ConfigurationError if a connection was given, except to a storage for tests."""
        if connection is not None and not self._store.takes_connections:
            raise ConfigurationError("memory storage takes no connection=: its jobs are in no database")
