"""The file, its log or the log's index deleted, moved, replaced or copied while storages have it open."""
# ruff: noqa: ASYNC240 -- nothing else runs on the loop meanwhile

from __future__ import annotations

import asyncio
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
from jobq_storage_sqlite import SqliteQueueStorage, file_identity

TOPIC = queue_topic("default")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_identity, "QUIET", 0.0)
    monkeypatch.setattr(file_identity, "RECENT", 0.0)


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
    """Hold that nothing is taken or given out, and that the sentence names the file."""
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
    """Nothing has changed in the folder for long, and whatever does from now on gives it another time of change."""
    os.utime(path.parent, (0, 0))
    monkeypatch.setattr(file_identity, "SETTLED", -1.0)


@pytest.mark.parametrize("folder", ["fresh", "quiet"])
@pytest.mark.parametrize("how", ["deleted", "replaced"])
@pytest.mark.parametrize("part", [Path, log_of, index_of])
async def test_nothing_is_acknowledged_that_went_into_what_went_away_just_after_it_was_looked_at(
    storage: SqliteQueueStorage,
    path: Path,
    part: Callable[[Path], Path],
    how: str,
    folder: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr(file_identity, "RECENT", 1000.0)
    if folder == "quiet":
        request.getfixturevalue("quiet")
    await add_job(storage)
    if how == "deleted":
        part(path).unlink()
    else:
        shutil.copy(part(path), path.with_name("copy")).replace(part(path))
    with pytest.raises(StorageUnavailableError, match="during the operation"):
        await storage.add([new_job()])
    monkeypatch.setattr(file_identity, "QUIET", 1000.0)
    then = "its log" if part is not Path else "deleted or moved away" if how == "deleted" else "another file"
    with pytest.raises(StorageUnavailableError, match=then):
        await storage.add([new_job()])


@pytest.mark.usefixtures("quiet")
async def test_other_files_that_come_and_go_beside_it_are_no_matter(storage: SqliteQueueStorage, path: Path) -> None:
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
    monkeypatch.setattr(file_identity, "RECENT", 1000.0)
    await add_job(storage)
    monkeypatch.delattr(file_identity.FileIdentity, "_look")
    await add_job(storage)


async def test_a_file_that_is_moved_away_and_back_is_gone_on_with(storage: SqliteQueueStorage, path: Path) -> None:
    first = await add_job(storage)
    path.rename(path.with_name("away.db"))
    await refuses(storage, path, "deleted or moved away")
    path.with_name("away.db").rename(path)
    second = await add_job(storage)
    assert storage.warnings == ()
    assert None not in await storage.get_status([first, second])
    assert await ids(path) == {first.bytes, second.bytes}


async def test_a_file_moved_over_it_is_used_from_then_on(
    storage: SqliteQueueStorage, other: SqliteQueueStorage, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = await add_job(storage)
    copy = copy_of(path)
    lost = await add_job(storage)
    with closing(sqlite3.connect(path)) as connection:
        former = {row[0] for row in connection.execute("SELECT id FROM jobq_job")}
    path.with_name("former.db").hardlink_to(path)
    copy.replace(path)
    with caplog.at_level(logging.WARNING, "jobq.sqlite"):
        added = [await add_job(storage), await add_job(other)]
        assert [status is None for status in await storage.get_status([kept, lost, *added])] == [
            False,
            True,
            False,
            False,
        ]
        assert [status is None for status in await other.get_status([kept, lost, *added])] == [
            False,
            True,
            False,
            False,
        ]
    assert "is not in it" in storage.warnings[0]
    assert len(caplog.records) == 2, "one of each storage"
    # The former file's log was put into it, not into the other.
    assert await ids(path.with_name("former.db")) == former == {kept.bytes, lost.bytes}
    assert await ids(path) == {kept.bytes, *(job.bytes for job in added)}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_one_that_only_reads_takes_the_other_file_too(storage: SqliteQueueStorage, path: Path) -> None:
    await add_job(storage)
    copy = copy_of(path)
    lost = await add_job(storage)
    copy.replace(path)
    assert await storage.get_status([lost]) == [None]
    assert await storage.get_status([await add_job(storage)]) != [None]


async def test_a_file_that_is_no_queue_is_not_written_to(storage: SqliteQueueStorage, path: Path) -> None:
    await add_job(storage)
    for content in (b"", b"no database at all, but long enough to be one" * 100):
        strange = path.with_name("strange")
        strange.write_bytes(content)
        strange.replace(path)
        await refuses(storage, path, "cannot be used")
        await refuses(storage, path, "cannot be used")
        assert path.read_bytes() == content
    async with SqliteQueueStorage(path.with_name("good.db")):
        pass
    path.with_name("good.db").replace(path)
    await add_job(storage)


async def test_a_file_that_is_still_being_copied_is_waited_for(
    storage: SqliteQueueStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_identity, "QUIET", 1e9)
    job = await add_job(storage)
    content = copy_of(path).read_bytes()
    path.unlink()
    with path.open("wb", buffering=0) as file:
        for part in (content[: len(content) // 2], content[len(content) // 2 :]):
            await refuses(storage, path, "as soon as nobody has written")
            file.write(part)
    await refuses(storage, path, "as soon as nobody has written")
    monkeypatch.setattr(file_identity, "QUIET", 0.0)
    monkeypatch.setattr(file_identity, "RECENT", 0.0)
    assert None not in await storage.get_status([job, await add_job(storage)])


async def test_half_a_copy_is_refused_until_it_is_whole(storage: SqliteQueueStorage, path: Path) -> None:
    job = await add_job(storage)
    content = copy_of(path).read_bytes()
    half = content[: len(content) // 2]
    path.unlink()
    path.write_bytes(half)
    await refuses(storage, path, "cannot be used")
    assert path.read_bytes() == half
    with path.open("ab") as file:
        file.write(content[len(half) :])
    assert None not in await storage.get_status([job, await add_job(storage)])


async def test_nothing_is_acknowledged_that_was_committed_to_a_file_moved_away_meanwhile(
    storage: SqliteQueueStorage, path: Path
) -> None:
    assert storage._parts is not None

    def meanwhile(transaction: Any) -> None:
        path.rename(path.with_name("away.db"))

    with pytest.raises(StorageUnavailableError, match="during the operation"):
        await storage._parts.writer.call(meanwhile)
    await refuses(storage, path, "deleted or moved away")


@pytest.mark.parametrize("part", [log_of, index_of])
async def test_without_its_log_or_the_index_nothing_is_taken_until_all_are_started_again(
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
        assert await ids(killed) == {job.bytes for job in jobs}
    async with SqliteQueueStorage(path) as storage:
        assert None not in await storage.get_status([*jobs, await add_job(storage)])
        assert storage.warnings == ()


async def test_the_doorbell_of_the_other_file_is_heard(storage: SqliteQueueStorage, path: Path) -> None:
    fresh = path.with_name("fresh.db")
    async with SqliteQueueStorage(fresh):
        pass
    async with storage.subscribe([TOPIC]) as ear:
        async with SqliteQueueStorage(path) as other:
            for _ in range(5):
                await add_job(other)
                assert await ear.wait(30) == {TOPIC}
        os.replace(fresh, path)  # noqa: PTH105
        # The watcher looks at least every second, and says that all is to be looked at.
        assert await ear.wait(30) == {TOPIC}
        async with SqliteQueueStorage(path) as other:
            for _ in range(2):
                waiting = asyncio.create_task(ear.wait(30))
                await add_job(other)
                assert await waiting == {TOPIC}


async def test_a_link_that_leads_to_another_file_counts_as_replaced(tmp_path: Path) -> None:
    first, second, link = tmp_path / "first.db", tmp_path / "second.db", tmp_path / "jobs.db"
    async with SqliteQueueStorage(second):
        pass
    link.symlink_to(first)
    async with SqliteQueueStorage(link) as storage:
        await add_job(storage)
        link.unlink()
        link.symlink_to(second)
        job = await add_job(storage)
        assert await ids(second) == {job.bytes}


async def test_a_copy_is_a_queue_of_its_own(storage: SqliteQueueStorage, path: Path) -> None:
    worker = await register_worker(storage, lost_after=0.05)
    await add_job(storage)
    claimed = await claim_one(storage, worker)
    copy = path.with_name("elsewhere.db")
    shutil.copy(path, copy)
    shutil.copy(log_of(path), log_of(copy))
    async with SqliteQueueStorage(copy) as elsewhere:
        async with asyncio.timeout(30):
            while not (lost := await elsewhere.rescue()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert [job.id for one in lost for job in one.jobs] == [claimed.id]
        assert [status.attempt for status in await storage.get_status([claimed.id]) if status] == [1]
