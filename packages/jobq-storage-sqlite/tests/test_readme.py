"""What the README says, tried."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from jobq_core.testing import add_job, state_of
from jobq_storage_sqlite import SqliteQueueStorage
from jobq_storage_sqlite.connect import OLDEST

README = Path(__file__).parents[1] / "README.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_settings_are_the_defaults(path: Path) -> None:
    namespace: dict[str, object] = {}
    exec(blocks()[0], namespace)
    written, usual = namespace["storage"], SqliteQueueStorage("jobs.db")
    assert isinstance(written, SqliteQueueStorage)
    settings = ("path", "synchronous", "busy_timeout", "_migrate_at_open")
    assert [getattr(written, name) for name in settings] == [getattr(usual, name) for name in settings]
    assert "SQLite 3.38 or newer" in README.read_text("utf-8")
    assert OLDEST == (3, 38, 0)


async def test_a_backup_while_jobs_are_added_is_a_storage_with_jobs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    async with SqliteQueueStorage("jobs.db") as storage:
        first = await add_job(storage)
        adding = [asyncio.create_task(add_job(storage)) for _ in range(200)]
        await asyncio.to_thread(exec, blocks()[1], {})
        await asyncio.gather(*adding)
    async with SqliteQueueStorage("backup.db") as backup:
        assert await state_of(backup, first) == "pending"
        await add_job(backup)


async def test_vacuum_shrinks_the_file(path: Path) -> None:
    async with SqliteQueueStorage(path) as storage:
        for _ in range(20):
            await add_job(storage, arguments=b'"' + b"x" * 100_000 + b'"')
        assert await storage.clear("default") == 20
    large = path.stat().st_size  # noqa: ASYNC240
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")
    assert path.stat().st_size < large / 10  # noqa: ASYNC240
    async with SqliteQueueStorage(path) as storage:
        await add_job(storage)
