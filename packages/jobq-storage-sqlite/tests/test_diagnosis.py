"""Diagnosis: each illness is planted, found and named; a healthy file has none."""
# ruff: noqa: ASYNC240 -- nothing else runs on the loop meanwhile

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from jobq_core.migrations import Migration, Migrations
from jobq_core.storage import Finding, Severity
from jobq_core.testing import ManualClock, add_job, claim_one, new_job, register_worker, settle
from jobq_storage_sqlite import SqliteQueueStorage, diagnosis, file_checks, migrations

TEXT = b'"' + b"x" * 100_000 + b'"'


@pytest.fixture(autouse=True)
def _room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_checks, "LEAST_FREE_BYTES", 0)  # the disk of these tests may be almost full


@pytest.fixture
async def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def storage(path: Path, clock: ManualClock) -> AsyncIterator[SqliteQueueStorage]:
    storage = SqliteQueueStorage(path)
    storage._clock = storage._uptime = clock
    async with storage:
        yield storage


@contextmanager
def shell(path: Path) -> Iterator[sqlite3.Connection]:
    """Give another program's connection to the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


async def only_finding(storage: SqliteQueueStorage, code: str) -> Finding:
    """Check that the diagnosis finds this and nothing else, and return it."""
    [finding] = await storage.diagnose()
    assert finding.code == code
    assert finding.subject
    assert finding.remedy
    return finding


async def test_a_healthy_file_has_no_findings(storage: SqliteQueueStorage, path: Path, clock: ManualClock) -> None:
    assert await storage.diagnose() == []
    worker = await register_worker(storage, lost_after=1e6)
    await storage.add([new_job() for _ in range(20)])
    await settle(storage, worker, await claim_one(storage, worker))
    await storage.sample_depths()
    clock.advance(2 * 86_400)
    await storage.prune()
    async with SqliteQueueStorage(path) as other:
        assert await other.diagnose() == await storage.diagnose() == []


# The disk and the files


async def test_a_network_file_system(
    storage: SqliteQueueStorage, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
        f"36 27 {os.major(device)}:{os.minor(device)} / /srv rw shared:7 - nfs4 server:/export rw,vers=4.2\n"
    )
    monkeypatch.setattr(file_checks, "MOUNTS", mounts)
    finding = await only_finding(storage, "network-file-system")
    assert finding.severity is Severity.ERROR
    assert "nfs4" in finding.message


async def test_a_file_of_two_names(storage: SqliteQueueStorage, path: Path) -> None:
    os.link(path, path.with_name("again.db"))
    finding = await only_finding(storage, "hard-links")
    assert "2 names" in finding.message
    path.with_name("again.db").unlink()
    assert await storage.diagnose() == []


async def test_a_disk_that_is_almost_full(storage: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_checks, "LEAST_FREE_BYTES", 2**62)
    assert (await only_finding(storage, "disk-almost-full")).severity is Severity.ERROR


def test_files_that_this_user_may_not_write_to(path: Path) -> None:
    child = Path(__file__).parent / "children" / "not_writable.py"
    done = subprocess.run([sys.executable, child, path], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout.split() == ["not-writable"]


async def test_a_file_that_was_deleted(storage: SqliteQueueStorage, path: Path) -> None:
    path.unlink()
    assert "deleted or moved" in (await only_finding(storage, "file-unusable")).message


async def test_a_file_that_was_replaced(storage: SqliteQueueStorage, path: Path, tmp_path: Path) -> None:
    async with SqliteQueueStorage(tmp_path / "other.db"):
        pass
    (tmp_path / "other.db").replace(path)
    assert "put in its place" in (await only_finding(storage, "file-unusable")).message


async def test_a_log_that_a_reader_keeps(
    storage: SqliteQueueStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_checks, "LOG_TOO_LARGE_BYTES", 1_000_000)
    with shell(path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobq_job").fetchone()
        for _ in range(15):
            await add_job(storage, arguments=TEXT)
        finding = await only_finding(storage, "log-grows")
    assert re.search(r"has grown to \d MB", finding.message)
    if file_checks.LOCKS.exists():
        assert f"pid {os.getpid()}" in finding.message


async def test_a_write_lock_that_another_connection_keeps(
    storage: SqliteQueueStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "LOCKED_SECONDS", 0.05)
    with shell(path) as writer:
        writer.execute("BEGIN IMMEDIATE")
        finding = await only_finding(storage, "write-lock-held")
    if file_checks.LOCKS.exists():
        assert f"pid {os.getpid()}" in finding.message
    monkeypatch.undo()
    assert await storage.diagnose() == []


async def test_a_write_lock_that_is_given_up_at_the_busy_timeout(path: Path) -> None:
    async with SqliteQueueStorage(path, busy_timeout=0.1) as storage:
        with shell(path) as writer:
            writer.execute("BEGIN IMMEDIATE")
            await only_finding(storage, "write-lock-held")
        assert await storage.diagnose() == []


async def test_the_journal_of_a_file_in_use_cannot_be_changed(storage: SqliteQueueStorage, path: Path) -> None:
    with shell(path) as other, pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("PRAGMA journal_mode = DELETE")


# What the file holds


async def test_a_file_that_is_mostly_free(storage: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "FREE_BYTES", 1_000_000)
    await storage.add([new_job(arguments=TEXT) for _ in range(20)])
    assert await storage.diagnose() == []
    await storage.clear("default")
    finding = await only_finding(storage, "free-pages")
    assert finding.severity is Severity.WARNING
    assert "VACUUM" in finding.remedy


@pytest.mark.parametrize(
    ("table", "checked"),
    [("jobq_attempt", diagnosis.CHECKED_BYTES), ("jobq_tally", 0)],
    ids=["found by a check", "met by a read"],
)
async def test_a_damaged_file(path: Path, table: str, checked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "CHECKED_BYTES", checked)
    async with SqliteQueueStorage(path):
        pass
    with shell(path) as other:
        (page,) = other.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        (size,) = other.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\x5a" * size)
    async with SqliteQueueStorage(path) as storage:
        assert (await only_finding(storage, "damaged")).severity is Severity.ERROR


async def test_a_schema_that_is_behind(storage: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    known = migrations.known()
    newer = Migrations(known.package, (*known.steps, Migration("0002_post_more", "SELECT 1")))
    monkeypatch.setattr(migrations, "known", lambda: newer)
    finding = await only_finding(storage, "schema-behind")
    assert "0002_post_more" in finding.message
    assert "jobq migrate" in finding.remedy


async def test_a_schema_that_is_ahead(storage: SqliteQueueStorage, path: Path) -> None:
    with shell(path) as other:
        other.execute("INSERT INTO jobq_migration (name, checksum) VALUES ('0002_pre_more', 'x')")
    finding = await only_finding(storage, "schema-ahead")
    assert "0002_pre_more" in finding.message
    assert "jobq-storage-sqlite" in finding.remedy


async def test_a_missing_index_is_made_by_the_remedy(storage: SqliteQueueStorage, path: Path) -> None:
    with shell(path) as other:
        other.execute("DROP INDEX jobq_life_waiting")
        finding = await only_finding(storage, "missing-index")
        assert finding.subject == "jobq_life_waiting"
        other.execute(finding.remedy)
    assert await storage.diagnose() == []


async def test_commits_that_a_loss_of_power_may_lose(path: Path) -> None:
    async with SqliteQueueStorage(path, synchronous="NORMAL") as storage:
        assert (await only_finding(storage, "not-durable")).severity is Severity.WARNING


async def test_a_file_that_nobody_prunes(storage: SqliteQueueStorage, clock: ManualClock) -> None:
    worker = await register_worker(storage, lost_after=1e6)
    await add_job(storage)
    await settle(storage, worker, await claim_one(storage, worker))
    clock.advance(3 * 86_400)
    assert "3 days" in (await only_finding(storage, "not-pruned")).message
    await storage.prune()
    assert await storage.diagnose() == []


async def test_errors_come_before_warnings(path: Path) -> None:
    async with SqliteQueueStorage(path, synchronous="NORMAL") as storage:
        with shell(path) as other:
            other.execute("DROP INDEX jobq_life_due")
        assert [finding.code for finding in await storage.diagnose()] == ["missing-index", "not-durable"]


async def test_the_files_are_examined_by_the_name_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "jobs.db", tmp_path / "link.db"
    async with SqliteQueueStorage(real):
        link.symlink_to(real)
        async with SqliteQueueStorage(link) as storage:
            assert await storage.diagnose() == []
            shutil.copy(real, tmp_path / "copy.db")
            os.link(real, tmp_path / "again.db")
            assert (await only_finding(storage, "hard-links")).subject == str(real)
