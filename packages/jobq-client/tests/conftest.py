from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jobq_client import JobQueueClient

from .helpers import ManualWorker, Probe


@pytest.fixture
async def storage() -> AsyncIterator[Probe]:
    async with Probe() as storage:
        yield storage
        assert storage.listening == 0, "something is left subscribed"


@pytest.fixture
async def client(storage: Probe) -> AsyncIterator[JobQueueClient]:
    async with JobQueueClient(storage) as client:
        yield client


@pytest.fixture
async def worker(storage: Probe) -> ManualWorker:
    return await ManualWorker(storage).register()
