"""URLs, options, and files that cannot be opened or hold something else."""
# ruff: noqa: ASYNC221, ASYNC240 -- nothing else runs on the loop meanwhile

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobq_core.errors import ClosedError, ConfigurationError, StorageError, StorageUnavailableError
from jobq_core.states import JobState
from jobq_core.storage import Added
from jobq_core.testing import add_job, new_job, read, state_of
from jobq_core.urls import open_storage
from jobq_storage_sqlite import SqliteQueueStorage, sql
from jobq_storage_sqlite.forks import Connection


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///jobs.db", "jobs.db"),
        ("sqlite:///data/jobs.db", "data/jobs.db"),
        ("sqlite:////var/lib/jobs.db", "/var/lib/jobs.db"),
        ("sqlite:///a%20name%3F.db", "a name?.db"),
    ],
)
def test_a_url_names_a_relative_or_an_absolute_path(url: str, path: str) -> None:
    storage = SqliteQueueStorage.from_url(url)
    assert storage.path == Path.cwd() / path
    assert SqliteQueueStorage.from_url(storage.url).path == storage.path


async def test_a_relative_path_stays_the_file_that_it_was_whatever_the_process_changes_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a chdir, an acknowledged add lay in another file of the same name."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        await SqliteQueueStorage(folder / "jobs.db").migrate()
    monkeypatch.chdir(first)
    storage = SqliteQueueStorage.from_url("sqlite:///jobs.db")
    monkeypatch.chdir(second)
    async with storage:
        before = await add_job(storage)
        # Any error of the disk makes the writer and the reader connect again.
        assert storage._opened is not None
        with pytest.raises(StorageUnavailableError):
            await storage._opened.writer.call(_fail_as_a_disk)
        job = await add_job(storage)
    async with SqliteQueueStorage(first / "jobs.db") as storage:
        assert None not in await storage.get([before, job])
    async with SqliteQueueStorage(second / "jobs.db") as storage:
        assert await storage.counts() == {}


def _fail_as_a_disk(_: Any) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    raise error


async def test_an_open_storage_does_not_read_its_package_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade replaces the package's folder while the process runs."""
    for cached in (sql.sql, sql.statements):
        cached.cache_clear()
    async with SqliteQueueStorage(path) as storage:
        monkeypatch.setattr(sql, "_FOLDER", path / "gone")
        job = await add_job(storage)
        assert await state_of(storage, job) is JobState.PENDING
        assert (await storage.delete([job]))[0].changed


def test_open_storage_finds_it_by_the_scheme() -> None:
    storage = open_storage("sqlite:///jobs.db")
    assert isinstance(storage, SqliteQueueStorage)
    assert storage.schemes == ("sqlite",)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://:memory:", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused_and_the_memory_storage_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="memory://"):
        SqliteQueueStorage.from_url(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://jobs.db", "three slashes"),
        ("sqlite:///jobs.db?mode=ro", "takes none"),
        ("sqlite:///jobs.db#1", "takes none"),
        ("postgresql:///jobs", "not of an SQLite storage"),
        ("jobs.db", "not of an SQLite storage"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        SqliteQueueStorage.from_url(url)


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
def test_a_text_that_may_hold_a_password_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        SqliteQueueStorage.from_url(url)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("path", [":memory:", "", ".", "file:jobs.db?mode=memory"])
def test_a_path_that_is_not_a_file_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="memory://"):
        SqliteQueueStorage(path)


@pytest.mark.parametrize("url", ["sqlite:///\ud800.db", "sqlite://\ud800/jobs.db"], ids=ascii)
def test_a_url_that_is_not_text_is_refused_by_a_message_that_is(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        SqliteQueueStorage.from_url(url)
    assert str(refused.value).encode()


@pytest.mark.parametrize("path", [None, 7, b"jobs.db", "\ud800.db"], ids=ascii)
def test_a_path_that_names_no_file_is_refused(path: Any) -> None:
    with pytest.raises(ConfigurationError, match="file"):
        SqliteQueueStorage(path)


@pytest.mark.parametrize(
    "options",
    [
        {"migrate": "no"},
        {"synchronous": ["FULL"]},
        {"synchronous": "OFF"},
        {"busy_timeout": 0},
        {"busy_timeout": float("inf")},
    ],
)
def test_an_option_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        SqliteQueueStorage("jobs.db", **options)


def test_busy_timeout_may_be_a_timedelta() -> None:
    busy_timeout: Any = timedelta(seconds=3)
    assert SqliteQueueStorage("jobs.db", busy_timeout=busy_timeout).busy_timeout == 3.0


@pytest.mark.parametrize(("synchronous", "level"), [("FULL", 2), ("NORMAL", 1), ("EXTRA", 3)])
async def test_the_writer_has_the_synchronous_setting(path: Path, synchronous: Any, level: int) -> None:
    async with SqliteQueueStorage(path, synchronous=synchronous) as storage:
        assert storage._opened is not None
        settings = await storage._opened.writer.call(
            lambda transaction: [
                transaction.connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous")
            ]
        )
    assert settings == ["wal", level]


async def test_a_file_that_is_not_a_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 500)
    with pytest.raises(StorageError, match="not an SQLite database"):
        await SqliteQueueStorage(path).open()
    assert path.read_bytes() == b"Dear diary, " * 500


async def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError, match="cannot be opened"):
        await SqliteQueueStorage(tmp_path).open()


async def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError, match="folder exist"):
        await SqliteQueueStorage(tmp_path / "no" / "jobs.db").open()
    assert not (tmp_path / "no").exists()


async def test_a_file_that_may_only_be_read_is_refused(path: Path) -> None:
    # Not below tmp_path, whose folders are closed to other users: root has to become one to be refused anything.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "jobs.db"
        async with SqliteQueueStorage(file):
            pass
        file.chmod(0o444)
        folder.chmod(0o555)
        done = subprocess.run(
            [sys.executable, Path(__file__).parent / "children" / "readonly.py", file, path],
            capture_output=True,
            text=True,
            check=True,
        )
        folder.chmod(0o755)
    assert done.stdout.startswith("Storage"), done
    assert "may" in done.stdout


async def test_a_database_of_an_application_is_shared_with_it(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE job (id INTEGER PRIMARY KEY)")
        connection.commit()
    async with SqliteQueueStorage(path) as storage:
        job = await add_job(storage)
        assert await state_of(storage, job) == "pending"


async def test_a_storage_that_is_not_open_says_so(path: Path) -> None:
    storage = SqliteQueueStorage(path)
    with pytest.raises(ClosedError, match="open"):
        await storage.add([new_job()])
    with pytest.raises(ClosedError):
        storage.subscribe(["finished"])
    await storage.close()
    assert not path.exists()


async def test_it_can_be_opened_twice_closed_twice_and_opened_again(path: Path) -> None:
    storage = SqliteQueueStorage(path)
    await storage.open()
    await storage.open()
    job = await add_job(storage)
    await storage.close()
    await storage.close()
    async with storage:
        assert await state_of(storage, job) == "pending"


async def test_the_log_is_gone_when_the_last_one_closes(path: Path) -> None:
    async with SqliteQueueStorage(path) as storage:
        await add_job(storage)
        assert sorted(file.name for file in path.parent.iterdir()) == ["jobs.db", "jobs.db-shm", "jobs.db-wal"]
    assert [file.name for file in path.parent.iterdir()] == ["jobs.db"]


@pytest.mark.parametrize("pragma", ["journal_mode", "synchronous", "busy_timeout", "query_only"])
async def test_a_connection_that_cannot_be_set_up_is_closed(
    pragma: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(connection: Connection, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if f"PRAGMA {pragma} = " in sql:
            made.append(connection)
            raise sqlite3.OperationalError("disk I/O error")
        return sqlite3.Connection.execute(connection, sql, *parameters)

    def close(connection: Connection) -> None:
        closed.append(connection)
        sqlite3.Connection.close(connection)

    made: list[sqlite3.Connection] = []
    closed: list[sqlite3.Connection] = []
    await SqliteQueueStorage(tmp_path / "jobs.db").migrate()
    monkeypatch.setattr(Connection, "execute", execute)
    monkeypatch.setattr(Connection, "close", close)
    storage = SqliteQueueStorage(tmp_path / "jobs.db", migrate=False)
    with pytest.raises(StorageError, match="disk I/O error"):
        await storage.open()
    assert made
    assert all(connection in closed for connection in made)


async def test_a_unique_key_whose_time_is_over_is_free(storage: SqliteQueueStorage) -> None:
    def hold(*, until: int) -> None:
        with closing(sqlite3.connect(storage.path)) as connection, connection:
            connection.execute("UPDATE jobq_unique_key SET until = ?", (until,))

    first, second = [await add_job(storage, unique_key=key) for key in "ab"]
    hold(until=2**62)
    await storage.abort([first, second])
    assert await storage.add([new_job(unique_key="a")]) == [Added(first, False)]
    assert [change.changed for change in await storage.retry([second])] == [False]
    hold(until=1)
    new = new_job(unique_key="a")
    assert await storage.add([new]) == [Added(new.id, True)]
    assert [change.changed for change in await storage.retry([second])] == [True]
    assert await storage.add([new_job(unique_key=key) for key in "ab"]) == [Added(new.id, False), Added(second, False)]


async def test_eventlet_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patcher = SimpleNamespace(is_monkey_patched=lambda what: what == "thread")
    monkeypatch.setitem(sys.modules, "eventlet.patcher", patcher)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="use gevent, threads or PostgreSQL"):
        await SqliteQueueStorage(path).open()
