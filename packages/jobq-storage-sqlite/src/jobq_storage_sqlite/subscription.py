"""Subscriptions, which begin from the counts of notifications in the file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from jobq_core.local_notifier import LocalSubscription
from jobq_storage_sqlite.columns import to_array
from jobq_storage_sqlite.notifier import SqliteNotifier
from jobq_storage_sqlite.reader import Reader


class SqliteSubscription(LocalSubscription):
    """A subscription that gets nothing of what was committed before it was entered."""

    def __init__(self, topics: Iterable[str], notifier: SqliteNotifier, reader: Reader) -> None:
        super().__init__(topics, notifier)
        self._counts = notifier
        self._reader = reader

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            topics = to_array(sorted(self.topics))
            self._counts.begin(dict(await self._reader.rows("count_notifications", topics=topics)))
        except BaseException:
            self._counts.leave(self)
            raise
        return self
