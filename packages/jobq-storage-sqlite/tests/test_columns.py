"""Rows edited by hand: the tables refuse them, or they are read and claimed like the others."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobq_core.job import MAX_ATTEMPTS
from jobq_core.states import JobState
from jobq_core.storage import JobFilter
from jobq_core.testing import add_job, claim, claim_one, read, register_worker
from jobq_storage_sqlite import SqliteQueueStorage


def write(path: Path, sql: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(sql, values).rowcount == 1


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("jobq_job", "id", b"short"),
        ("jobq_job", "max_attempts", 0),
        ("jobq_job", "max_attempts", MAX_ATTEMPTS + 1),
        ("jobq_job", "max_attempts", 2**63 - 1),
        ("jobq_job", "tags", "no json"),
        ("jobq_job", "tags", '{"a": 1}'),
        ("jobq_job", "arguments", None),
        ("jobq_job", "timeout", 9e999),
        ("jobq_job", "timeout", -1.0),
        ("jobq_life", "state", "lost"),
        ("jobq_life", "state", 3),
        ("jobq_life", "state", "completed"),
        ("jobq_life", "finished_at", 1),
        ("jobq_life", "percent", 9e999),
        ("jobq_life", "attempt", 2**63 - 1),
        ("jobq_life", "attempt", MAX_ATTEMPTS + 1),
        ("jobq_life", "attempt", -1),
        ("jobq_life", "urgency", 101),
        ("jobq_life", "urgency", -102),
        ("jobq_life", "extra", "[]"),
        ("jobq_life", "reason", "late"),
        ("jobq_job", "priority", 101),
        ("jobq_life", "request", "explode"),
        ("jobq_life", "worker", b"short"),
        ("jobq_life", "settled", "processing"),
        ("jobq_worker", "id", b"short"),
        ("jobq_worker", "pid", "many"),
        ("jobq_worker", "queues", "{}"),
        ("jobq_worker", "kinds", "no json"),
        ("jobq_worker", "stats", "[]"),
    ],
)
async def test_a_value_that_no_reader_could_use_is_refused_by_the_table(
    storage: SqliteQueueStorage, table: str, column: str, value: object
) -> None:
    await add_job(storage)
    await register_worker(storage)
    with pytest.raises(sqlite3.Error, match=r"CHECK|NOT NULL|malformed JSON|cannot store TEXT"):
        write(storage.path, f"UPDATE {table} SET {column} = ?", value)


@pytest.mark.parametrize(
    ("column", "value"), [("worker", None), ("lease", None), ("started_at", None), ("attempt", 0), ("finished_at", 1)]
)
async def test_a_running_job_that_could_not_be_rescued_is_refused_by_the_table(
    storage: SqliteQueueStorage, column: str, value: object
) -> None:
    await add_job(storage)
    await claim_one(storage, await register_worker(storage))
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        write(storage.path, f"UPDATE jobq_life SET {column} = ?", value)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("jobq_job SET kind = CAST(? AS TEXT)", b"no\xffop"),
        ("jobq_job SET run_id = CAST(? AS TEXT)", b"\xff\xfe"),
        ("jobq_job SET tags = ?", "[" * 900 + "]" * 900),
        ("jobq_job SET tags = ?", '[1, null, "x"]'),
        ("jobq_job SET arguments = ?", b"\xff{"),
        ("jobq_job SET backoff = ?", b"garbage"),
        ("jobq_job SET deadline = ?", 2**63 - 1),
        ("jobq_job SET deadline = ?", -(2**63)),
        ("jobq_job SET created_at = ?", 2**63 - 1),
        ("jobq_life SET message = CAST(? AS TEXT), percent = 5", b"\xc3"),
        ("jobq_life SET details = ?, percent = 5", b"{"),
        ("jobq_life SET attempt = ?", MAX_ATTEMPTS),
    ],
    ids=str,
)
async def test_a_damaged_row_is_read_and_claimed_with_the_others(
    storage: SqliteQueueStorage, change: str, value: object
) -> None:
    worker = await register_worker(storage)
    damaged = await add_job(storage)
    n = "(SELECT n FROM jobq_job WHERE id = ?)"
    write(storage.path, f"UPDATE {change} WHERE n = {n}", value, damaged.bytes)
    sound = await add_job(storage, tags=("fine",), run_id="night")
    assert {job.id for job in (await storage.find(JobFilter())).jobs} == {damaged, sound}
    assert None not in await storage.get_status([damaged, sound])
    assert (await storage.counts("default"))["default"][JobState.PENDING] == 2
    assert {job.id for job in await claim(storage, worker)} == {damaged, sound}
    assert (await read(storage, damaged)).state is JobState.PROCESSING
    assert (await read(storage, sound)).tags == ("fine",)


async def test_a_claim_counts_attempts_up_to_the_highest(storage: SqliteQueueStorage) -> None:
    worker = await register_worker(storage)
    await add_job(storage)
    write(storage.path, "UPDATE jobq_life SET attempt = ?", MAX_ATTEMPTS)
    assert (await claim_one(storage, worker)).attempt == MAX_ATTEMPTS


async def test_a_damaged_worker_is_shown_and_lost_like_others(storage: SqliteQueueStorage) -> None:
    worker, other = await register_worker(storage), await register_worker(storage)
    write(storage.path, "UPDATE jobq_worker SET queues = '[7]', stats = '{\"x\": []}' WHERE id = ?", worker.id.bytes)
    shown = await storage.workers()
    assert [record.info.id for record in shown] == [worker.id, other.id]
    write(storage.path, "UPDATE jobq_worker SET beat_uptime = -(1 << 62), beat_at = 0 WHERE id = ?", worker.id.bytes)
    assert [lost.worker for lost in (await storage.rescue()).workers] == [worker.id]
