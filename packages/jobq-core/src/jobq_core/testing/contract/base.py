"""The base of all parts of the suite: the storage under test, and a second object on the same data."""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from jobq_core.records import WorkerInfo
from jobq_core.storage import QueueStorage
from jobq_core.testing.helpers import register_worker


@pytest.mark.asyncio
class ContractBase(abc.ABC):
    """A storage's test class has `second`, `advance` and a fixture `storage`: an open, migrated, empty storage."""

    @abc.abstractmethod
    async def second(self, storage: QueueStorage) -> QueueStorage:
        """Return another open storage object on the same data, as in another process. The suite closes it."""

    @abc.abstractmethod
    async def advance(self, storage: QueueStorage, seconds: float) -> None:
        """Move the storage's clock forward, for both objects."""

    @pytest_asyncio.fixture
    async def other(self, storage: QueueStorage) -> AsyncIterator[QueueStorage]:
        """Yield the second object."""
        other = await self.second(storage)
        yield other
        await other.close()

    @pytest_asyncio.fixture
    async def worker(self, storage: QueueStorage) -> WorkerInfo:
        """Give a registered worker of queue 'default'."""
        return await register_worker(storage)
