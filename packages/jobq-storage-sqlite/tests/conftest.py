from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobq_storage_sqlite import SqliteQueueStorage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SqliteQueueStorage]:
    async with SqliteQueueStorage(path) as storage:
        yield storage
