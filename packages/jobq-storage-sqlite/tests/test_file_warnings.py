"""What an administrator is told about the file's log."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from jobq_core.testing import add_job
from jobq_storage_sqlite import SqliteQueueStorage, file_warnings


async def test_a_log_that_a_reader_keeps_growing_is_reported_once_and_then_withdrawn(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(file_warnings, "LOG_TOO_LARGE_BYTES", 10_000_000)
    monkeypatch.setattr(file_warnings, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr("jobq_storage_sqlite.connect.LOG_BYTES", 1_000_000)
    caplog.set_level(logging.INFO, "jobq.sqlite")
    text = b'"' + b"x" * 1_000_000 + b'"'
    async with SqliteQueueStorage(path, synchronous="NORMAL") as storage:
        for _ in range(20):
            await add_job(storage, arguments=text)
        assert storage.warnings == (), "SQLite puts the log into the database by itself"
        with closing(sqlite3.connect(path, isolation_level=None)) as shell:
            shell.execute("BEGIN")
            shell.execute("SELECT count(*) FROM jobq_job").fetchone()
            for _ in range(20):
                await add_job(storage, arguments=text)
            [warning] = storage.warnings
            assert "read transaction" in warning
        assert [record.message for record in caplog.records] == [warning]
        for _ in range(3):
            await add_job(storage)
        assert storage.warnings == ()
        assert "copied into the database" in caplog.messages[-1]
