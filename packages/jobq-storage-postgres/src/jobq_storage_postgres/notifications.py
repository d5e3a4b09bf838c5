"""The notifications' facet of the storage."""

from __future__ import annotations

from collections.abc import Iterable

from jobq_core.storage import NotificationStorage, Subscription
from jobq_storage_postgres.engine import Facet


class Notifications(Facet, NotificationStorage):
    """Subscribes to topics."""

    @property
    def hears_notifications(self) -> bool:
        return self._engine.notifier.hears

    def subscribe(self, topics: Iterable[str]) -> Subscription:
        self._engine.pool.check_open()
        return self._engine.notifier.subscribe(topics)
