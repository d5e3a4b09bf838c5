"""Rows by a stranger's hand: refused by the tables, or claimed like others; none hides another."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobq_core.states import Ending, JobState
from jobq_core.storage import JobFilter, Settlement
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
        ("jobq_job", "max_attempts", 2**63 - 1),
        ("jobq_job", "tags", "no json"),
        ("jobq_job", "tags", '{"a": 1}'),
        ("jobq_job", "arguments", None),
        ("jobq_life", "state", 8),
        ("jobq_life", "state", -1),
        ("jobq_life", "attempt", 2**63 - 1),
        ("jobq_life", "attempt", -1),
        ("jobq_life", "urgency", 10),
        ("jobq_life", "request", "explode"),
        ("jobq_life", "worker", b"short"),
        ("jobq_life", "settled", 9),
        ("jobq_worker", "id", b"short"),
    ],
)
async def test_what_no_reader_could_take_is_refused_by_the_table(
    storage: SqliteQueueStorage, table: str, column: str, value: object
) -> None:
    await add_job(storage)
    await register_worker(storage)
    with pytest.raises(sqlite3.Error, match=r"CHECK|NOT NULL|malformed JSON"):
        write(storage.path, f"UPDATE {table} SET {column} = ?", value)


@pytest.mark.parametrize("column", ["worker", "lease", "started_at"])
async def test_a_running_job_that_could_not_be_taken_back_is_refused_by_the_table(
    storage: SqliteQueueStorage, column: str
) -> None:
    await add_job(storage)
    await claim_one(storage, await register_worker(storage))
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        write(storage.path, f"UPDATE jobq_life SET {column} = NULL")


async def test_a_running_job_of_no_attempt_is_settled_and_taken_back_with_the_others(
    storage: SqliteQueueStorage,
) -> None:
    worker = await register_worker(storage)
    strange, sound = await add_job(storage), await add_job(storage)
    for _ in range(2):
        claimed = {job.id: job for job in await claim(storage, worker)}
        write(storage.path, "UPDATE jobq_life SET attempt = 0 WHERE lease = ?", claimed[strange].lease)
        ends = [Settlement(claimed[job].id, claimed[job].lease, Ending.RELEASE) for job in (strange, sound)]
        assert (await storage.settle_and_claim(worker.id, ends)).settled == [JobState.PENDING] * 2
        assert (await read(storage, strange)).attempt == 0
    claimed = {job.id: job for job in await claim(storage, worker)}
    write(storage.path, "UPDATE jobq_life SET attempt = 0 WHERE lease = ?", claimed[strange].lease)
    await storage.deregister(worker.id)
    (lost,) = await storage.rescue()
    assert {(job.id, job.state) for job in lost.jobs} == {(strange, JobState.PENDING), (sound, JobState.PENDING)}
    assert (await read(storage, strange)).attempt == 0


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
        ("jobq_job SET timeout = ?", 9e999),
        ("jobq_job SET timeout = ?", -1.0),
        ("jobq_life SET message = CAST(? AS TEXT), percent = 5", b"\xc3"),
        ("jobq_life SET details = ?, percent = 5", b"{"),
        ("jobq_life SET percent = ?", 9e999),
        ("jobq_life SET attempt = ?", 32767),
        ("jobq_life SET reason = CAST(? AS TEXT)", b"\x80"),
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


async def test_a_damaged_worker_is_shown_and_lost_like_others(storage: SqliteQueueStorage) -> None:
    worker, other = await register_worker(storage), await register_worker(storage)
    write(storage.path, "UPDATE jobq_worker SET info = '[]', stats = 'x' WHERE id = ?", worker.id.bytes)
    shown = await storage.workers()
    assert [record.info.id for record in shown] == [worker.id, other.id]
    write(storage.path, "UPDATE jobq_worker SET beat_uptime = -(1 << 62), beat_at = 0 WHERE id = ?", worker.id.bytes)
    assert [lost.worker for lost in await storage.rescue()] == [worker.id]


@pytest.mark.parametrize("name", ["a b.db", "ä.db", "100%.db", "a?b#c.db", b"\xff.db"], ids=str)
async def test_a_file_of_any_name_is_found_again_by_the_url(tmp_path: Path, name: str | bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    async with SqliteQueueStorage(path) as storage:
        job = await add_job(storage)
        url = storage.url
    again = SqliteQueueStorage.from_url(url)
    assert again.path == path
    async with again:
        assert (await read(again, job)).state is JobState.PENDING


@pytest.mark.parametrize("url", ["sqlite:///a%00b.db", "sqlite:///a\0b.db"])
def test_a_name_with_a_nul_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="NUL"):
        SqliteQueueStorage.from_url(url)


@pytest.mark.parametrize("url", ["sqlite://u:hidden@host/db", "sqlite:///db?password=hidden", "http://u:hidden@x"])
def test_what_may_be_a_password_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        SqliteQueueStorage.from_url(url)
    assert "hidden" not in str(caught.value)
