"""The database, its log or the log's index deleted, moved, replaced or copied while storages have it open."""
# ruff: noqa: ASYNC240 -- nothing else runs on the loop meanwhile

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobq_core.errors import StorageUnavailableError
from jobq_core.storage import queue_topic
from jobq_core.testing import add_job, claim_one, new_job, register_worker
from jobq_storage_sqlite import SqliteQueueStorage, file_identity, reader

TOPIC = queue_topic("default")


@pytest.fixture(autouse=True)
def _each_read_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MATCHED_SECONDS", -1.0)


@pytest.fixture
async def other(storage: SqliteQueueStorage, path: Path) -> AsyncIterator[SqliteQueueStorage]:
    """Another object on the file, as another process would have it."""
    async with SqliteQueueStorage(path) as other:
        yield other


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def index_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-shm")


def copy_of(path: Path) -> Path:
    """Copy the file as SQLite does, with all that was committed."""
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    return copy


async def refuses(storage: SqliteQueueStorage, path: Path, match: str) -> None:
    """Expect that nothing is written or read, and that the sentence names the file."""
    for call in (storage.add([new_job()]), storage.counts("default")):
        with pytest.raises(StorageUnavailableError, match=match) as caught:
            await call
        assert str(path) in str(caught.value)
    assert [match in warning for warning in storage.warnings] == [True]


async def ids(path: Path) -> set[Any]:
    """Return the ids of all jobs in a file, by a connection that knows nothing of jobq."""
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM jobq_job")}


async def test_a_deleted_file_is_said_at_once_and_none_is_made_in_its_place(
    storage: SqliteQueueStorage, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await add_job(storage)
    path.unlink()
    with caplog.at_level(logging.WARNING, "jobq.sqlite"):
        for _ in range(3):
            await refuses(storage, path, "deleted or moved away")
    assert len(caplog.records) == 1
    assert not path.exists()


@pytest.fixture
def quiet(path: Path, storage: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has changed in the folder for long, and each later change gives it another time of change."""
    os.utime(path.parent, (0, 0))
    monkeypatch.setattr(file_identity, "SETTLED_SECONDS", -1.0)


@pytest.mark.parametrize("folder", ["fresh", "quiet"])
@pytest.mark.parametrize("how", ["deleted", "replaced"])
@pytest.mark.parametrize("part", [Path, log_of, index_of])
async def test_an_add_that_went_into_a_deleted_or_replaced_file_is_not_acknowledged(
    storage: SqliteQueueStorage,
    path: Path,
    part: Callable[[Path], Path],
    how: str,
    folder: str,
    request: pytest.FixtureRequest,
) -> None:
    if folder == "quiet":
        request.getfixturevalue("quiet")
    await add_job(storage)
    if how == "deleted":
        part(path).unlink()
    else:
        shutil.copy(part(path), path.with_name("copy")).replace(part(path))
    sentence = "its log" if part is not Path else "deleted or moved away" if how == "deleted" else "another file"
    for _ in range(2):
        with pytest.raises(StorageUnavailableError, match=sentence):
            await storage.add([new_job()])


@pytest.mark.usefixtures("quiet")
async def test_other_files_may_come_and_go_beside_it(storage: SqliteQueueStorage, path: Path) -> None:
    added = [await add_job(storage)]
    for act in (Path.touch, Path.unlink):
        act(path.with_name("other"))
        added += [await add_job(storage) for _ in range(2)]
    assert await ids(path) == {job_id.bytes for job_id in added}


@pytest.mark.usefixtures("quiet")
async def test_a_commit_in_a_quiet_folder_does_not_look_at_the_log(
    storage: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That makes the next write to it dearer, on Linux 6.13 and later."""
    await add_job(storage)
    monkeypatch.delattr(file_identity.FileIdentity, "_look")
    await add_job(storage)


async def test_a_file_that_is_moved_away_and_back_is_used_again(storage: SqliteQueueStorage, path: Path) -> None:
    first = await add_job(storage)
    path.rename(path.with_name("away.db"))
    await refuses(storage, path, "deleted or moved away")
    path.with_name("away.db").rename(path)
    second = await add_job(storage)
    assert storage.warnings == ()
    assert {first, second} <= {record.id for record in await storage.get([first, second]) if record}
    assert await ids(path) >= {first.bytes, second.bytes}


async def test_after_a_file_was_moved_over_it_both_files_are_whole_and_none_is_written_to(
    storage: SqliteQueueStorage, other: SqliteQueueStorage, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = await add_job(storage)
    copy = copy_of(path)
    newer = await add_job(storage)
    path.with_name("former.db").hardlink_to(path)
    copy.replace(path)
    with caplog.at_level(logging.WARNING, "jobq.sqlite"):
        for one in (storage, other, storage):
            await refuses(one, path, "another file was put in its place")
    assert len(caplog.records) == 2, "one of each storage"
    # The former file's log is put into the former file, and not into the other.
    assert await ids(path.with_name("former.db")) >= {kept.bytes, newer.bytes}
    assert await ids(path) == {kept.bytes}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_replaced_file_is_used_once_the_storage_is_opened_again(path: Path) -> None:
    async with SqliteQueueStorage(path) as storage:
        kept = await add_job(storage)
        copy_of(path).replace(path)
        await refuses(storage, path, "stop all processes")
    async with SqliteQueueStorage(path) as storage:
        assert None not in await storage.get_status([kept, await add_job(storage)])
        assert storage.warnings == ()


async def test_reads_alone_find_that_the_file_was_replaced(storage: SqliteQueueStorage, path: Path) -> None:
    await add_job(storage)
    copy_of(path).replace(path)
    with pytest.raises(StorageUnavailableError, match="another file"):
        await storage.counts()


async def test_a_file_that_is_not_a_queue_is_not_written_to(storage: SqliteQueueStorage, path: Path) -> None:
    await add_job(storage)
    for content in (b"", b"no database at all, but long enough to be one" * 100):
        strange = path.with_name("strange")
        strange.write_bytes(content)
        strange.replace(path)
        await refuses(storage, path, "another file")
        assert path.read_bytes() == content


async def test_a_commit_to_a_file_that_is_moved_away_meanwhile_is_not_acknowledged(
    storage: SqliteQueueStorage, path: Path
) -> None:
    assert storage._opened is not None

    def meanwhile(transaction: Any) -> None:
        path.rename(path.with_name("away.db"))

    with pytest.raises(StorageUnavailableError, match="deleted or moved away"):
        await storage._opened.writer.call(meanwhile)
    await refuses(storage, path, "deleted or moved away")


@pytest.mark.parametrize("part", [log_of, index_of])
async def test_without_its_log_or_the_index_nothing_is_read_or_written_until_all_are_started_again(
    path: Path, part: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with SqliteQueueStorage(path) as storage, SqliteQueueStorage(path) as other:
        jobs = [await add_job(storage), await add_job(other)]
        part(path).unlink()
        with caplog.at_level(logging.WARNING, "jobq.sqlite"):
            for one in (storage, other, storage):
                await refuses(one, path, "stop all processes")
        assert len(caplog.records) == 2
        # Even if all of them were killed now, nothing would be lost.
        killed = path.with_name("killed.db")
        shutil.copy(path, killed)
        if log_of(path).exists():
            shutil.copy(log_of(path), log_of(killed))
        assert await ids(killed) >= {job.bytes for job in jobs}
    async with SqliteQueueStorage(path) as storage:
        assert None not in await storage.get_status([*jobs, await add_job(storage)])
        assert storage.warnings == ()


async def test_a_waiting_subscription_is_notified_when_the_file_was_replaced(
    storage: SqliteQueueStorage, path: Path
) -> None:
    async with storage.subscribe([TOPIC]) as subscription:
        async with SqliteQueueStorage(path) as other:
            await add_job(other)
            assert await subscription.wait(30) == {TOPIC}
        copy_of(path).replace(path)
        # The watcher polls at least every second, and lets all waiters look for themselves.
        assert await subscription.wait(30) == {TOPIC}
        assert "another file" in storage.warnings[0]


async def test_a_link_that_leads_to_another_file_counts_as_replaced(tmp_path: Path) -> None:
    first, second, link = tmp_path / "first.db", tmp_path / "second.db", tmp_path / "jobs.db"
    async with SqliteQueueStorage(second):
        pass
    link.symlink_to(first)
    async with SqliteQueueStorage(link) as storage:
        await add_job(storage)
        link.unlink()
        link.symlink_to(second)
        with pytest.raises(StorageUnavailableError, match="another file"):
            await add_job(storage)
    assert await ids(second) == set()


async def test_a_copy_is_a_queue_of_its_own(storage: SqliteQueueStorage, path: Path) -> None:
    worker = await register_worker(storage)
    await add_job(storage)
    claimed = await claim_one(storage, worker)
    copy = path.with_name("elsewhere.db")
    shutil.copy(path, copy)
    shutil.copy(log_of(path), log_of(copy))
    async with SqliteQueueStorage(copy) as elsewhere:
        elsewhere._uptime = lambda: float(2**40)
        lost = (await elsewhere.rescue()).workers
        assert [job.id for one in lost for job in one.jobs] == [claimed.id]
        assert [status.attempt for status in await storage.get_status([claimed.id]) if status] == [1]
