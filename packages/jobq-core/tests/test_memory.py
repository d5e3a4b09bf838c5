from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from jobq_core.memory import MemoryQueueStorage
from jobq_core.storage import QueueStorage
from jobq_core.testing import ManualClock, StorageContract


class TestMemory(StorageContract):
    """On a clock that stands still, so that nothing can be told apart by its time alone."""

    @pytest.fixture
    async def storage(self) -> AsyncIterator[MemoryQueueStorage]:
        self.clock = ManualClock()
        async with MemoryQueueStorage(str(uuid4()), clock=self.clock) as storage:
            yield storage

    async def second(self, storage: QueueStorage) -> QueueStorage:
        other = MemoryQueueStorage.from_url(storage.url)
        await other.open()
        return other

    async def advance(self, storage: QueueStorage, seconds: float) -> None:
        self.clock.advance(seconds)
