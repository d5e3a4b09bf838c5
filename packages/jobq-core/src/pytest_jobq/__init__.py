"""The plugin of pytest that comes with jobq-core: `job_storage`, `job_client` and `sync_job_client`.

pytest loads it in every run where jobq-core is installed, so it imports jobq only for a test that uses a fixture. It is
a module of its own because importing a part of `jobq_core` imports that package.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from types import ModuleType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from jobq_client import JobQueueClient, SyncJobQueueClient
    from jobq_core.testing import ManualClockStorage

INSTALL = "the fixture {} needs the distribution jobq-client: pip install jobq-client"


@pytest.fixture
def job_storage(monkeypatch: pytest.MonkeyPatch) -> Generator[ManualClockStorage, None, None]:
    """Open memory storage of this test, whose time moves by `job_storage.clock.advance(seconds)`.

    The environment variable JOBQ_STORAGE is its URL during the test: clients and workers made without a storage share
    its jobs.
    """
    from jobq_core.testing import ManualClockStorage

    with ManualClockStorage(f"test-{uuid4()}") as storage:
        monkeypatch.setenv("JOBQ_STORAGE", storage.url)
        yield storage


@pytest.fixture
def sync_job_client(job_storage: ManualClockStorage) -> Generator[SyncJobQueueClient, None, None]:
    """A running SyncJobQueueClient on `job_storage`."""
    try:
        from jobq_client import SyncJobQueueClient
    except ModuleNotFoundError as error:
        raise pytest.UsageError(INSTALL.format("sync_job_client")) from error

    with SyncJobQueueClient(job_storage) as client:
        yield client


async def job_client(job_storage: ManualClockStorage) -> AsyncGenerator[JobQueueClient, None]:
    """A running JobQueueClient on `job_storage`, for tests that pytest-asyncio runs."""
    try:
        from jobq_client import JobQueueClient
    except ModuleNotFoundError as error:
        raise pytest.UsageError(INSTALL.format("job_client")) from error

    async with JobQueueClient(job_storage) as client:
        yield client


def pytest_configure(config: pytest.Config) -> None:
    """Add the async fixture if pytest-asyncio is there, which works in either of its modes."""
    plugin: Any = config.pluginmanager.get_plugin("asyncio")
    if plugin is not None:
        fixtures = ModuleType("jobq_async_fixtures")  # pytest looks for fixtures in modules
        vars(fixtures)["job_client"] = plugin.fixture(job_client)
        config.pluginmanager.register(fixtures)
