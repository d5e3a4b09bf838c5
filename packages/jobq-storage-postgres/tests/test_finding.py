"""Finding and counting jobs by conditions that have no index: a bounded number of jobs is read at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import repeat
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from jobq_core.states import JobState
from jobq_core.storage import JobFilter
from jobq_core.testing import add_job, claim, new_job, register_worker
from jobq_storage_postgres import PostgresQueueStorage, finding


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    async with PostgresQueueStorage(postgres_dsn, schema=empty_schema) as storage:
        yield storage


CRITERIA: list[dict[str, Any]] = [
    {"kinds": ("a",)},
    {"kinds": ("none",)},
    {"queue": "q"},
    {"queue": "q", "kinds": ("a", "b")},
    {"kinds": ("b",), "states": [JobState.PENDING, JobState.SCHEDULED]},
    {"kinds": ("b",), "states": [JobState.PROCESSING]},
    {"tags": ("t",)},
    {"tags": ("t",), "states": [JobState.SCHEDULED]},
    {"run_id": "r", "queue": "q"},
    {"run_id": "r", "kinds": ("c",)},
]


async def found_by(storage: PostgresQueueStorage, limit: int = 100, **criteria: Any) -> list[UUID]:
    """Return the ids that a filter finds on all pages."""
    ids: list[UUID] = []
    after: UUID | None = None
    while True:
        page = await storage.find(JobFilter(**criteria), after=after, limit=limit)
        assert len(page.jobs) <= limit
        ids += [job.id for job in page.jobs]
        if page.cursor is None:
            return ids
        assert after is None or page.cursor < after
        after = page.cursor


async def test_jobs_without_an_index_are_found_page_by_page(
    storage: PostgresQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await register_worker(storage)
    for n in range(30):
        options = {"kind": "abc"[n % 3], "queue": ("q", "default")[n % 2], "run_at": 3600.0 if n % 5 == 0 else None}
        await storage.add([new_job(**options, tags=("t",) if n % 4 else (), run_id="r" if n % 3 else None)])
    await claim(storage, worker, 3)
    expected = [await found_by(storage, **criteria) for criteria in CRITERIA]
    assert [bool(ids) for ids in expected] == [True, False] + 8 * [True]
    for walked in ((1, 1), (2, 3)):
        monkeypatch.setattr(
            finding, "_WALKED", {None: repeat(0), **dict.fromkeys(("queue", "kind", "run", "tag"), walked)}
        )
        for limit in (1, 4):
            assert [await found_by(storage, limit, **criteria) for criteria in CRITERIA] == expected


async def test_a_count_that_would_read_too_many_jobs_is_unknown(
    storage: PostgresQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_READ_OF_ALL", "_READ_OF_QUEUE", "_READ_BY_TAG", "_READ_BY_STATE"):
        monkeypatch.setattr(finding, name, 4)
    now = await storage.now()
    filters = [
        JobFilter(kinds=("rare",)),
        JobFilter(kinds=("rare",), queue="default"),
        JobFilter(kinds=("rare",), since=now.replace(year=2000)),
        JobFilter(tags=("t",), kinds=("rare",)),
        JobFilter(run_id="r", kinds=("rare",)),
    ]
    await storage.add([new_job(tags=("t",), run_id="r") for _ in range(2)])
    await add_job(storage, kind="rare", tags=("t",), run_id="r")
    assert [await storage.count(wanted) for wanted in filters] == [1] * 5
    await storage.add([new_job(tags=("t",), run_id="r") for _ in range(2)])
    assert [await storage.count(wanted) for wanted in filters] == [None] * 5
    assert await storage.count(JobFilter(queue="default")) == 5
