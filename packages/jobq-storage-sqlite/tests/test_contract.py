"""The conformance suite, on a file of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobq_core.storage import QueueStorage
from jobq_core.testing import LogsContract, ManualClock, StorageContract
from jobq_storage_sqlite import SqliteQueueStorage


class TestSqlite(StorageContract, LogsContract):
    """On a clock that stands still, so that no order depends on times alone."""

    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[SqliteQueueStorage]:
        self.clock = ManualClock()
        storage = SqliteQueueStorage(tmp_path / "jobs.db")
        storage._clock = storage._uptime = self.clock
        async with storage:
            yield storage

    async def second(self, storage: QueueStorage) -> QueueStorage:
        other = SqliteQueueStorage.from_url(storage.url)
        other._clock = other._uptime = self.clock
        await other.open()
        return other

    async def advance(self, storage: QueueStorage, seconds: float) -> None:
        self.clock.advance(seconds)
