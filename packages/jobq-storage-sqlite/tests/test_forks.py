"""Forks of a process with an SQLite storage: the child opens connections of its own, and the parent's are unhurt."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from jobq_core.errors import StorageError
from jobq_core.ids import new_id
from jobq_core.states import JobState
from jobq_core.testing import new_job
from jobq_storage_sqlite import SqliteQueueStorage
from jobq_storage_sqlite.transaction import Transaction


def fork(in_child: Callable[[], object]) -> int:
    """Fork, and return the id of a child that ends with 0 once it has made a call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of newer Pythons: this process has threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            in_child()
            status = 0
        finally:
            os._exit(status)
    return child


def status_of(child: int) -> int:
    """Wait for the end of a child process."""
    return os.waitpid(child, 0)[1]


class Signal:
    """An event that crosses a fork."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def set(self) -> None:
        os.write(self._writer, b"1")

    def wait(self) -> None:
        assert os.read(self._reader, 1) == b"1"


async def add(path: Path) -> None:
    """Add a job over connections of its own."""
    async with asyncio.timeout(20), SqliteQueueStorage(path) as storage:
        await storage.add([new_job()])


async def test_a_child_goes_on_when_its_parent_has_closed_the_file(tmp_path: Path) -> None:
    open_there, closed_here = Signal(), Signal()

    async def use(path: Path) -> None:
        async with asyncio.timeout(20), SqliteQueueStorage(path) as storage:
            await storage.add([new_job()])
            open_there.set()
            closed_here.wait()
            await storage.add([new_job()])
            assert (await storage.counts())["default"][JobState.PENDING] == 3

    async with SqliteQueueStorage(tmp_path / "jobs.db") as storage:
        await storage.add([new_job()])
        child = fork(lambda: asyncio.run(use(storage.path)))
        open_there.wait()
    # Without locks of the child's, this removed the log that the child writes to.
    closed_here.set()
    assert status_of(child) == 0
    await add(storage.path)
    with closing(sqlite3.connect(storage.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM jobq_job").fetchone() == (4,)


async def test_a_child_that_closes_what_it_inherited_ends_no_lock_of_its_parent(tmp_path: Path) -> None:
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM jobq_job'); c.close()"
    async with SqliteQueueStorage(tmp_path / "jobs.db") as storage:
        child = fork(lambda: asyncio.run(add(storage.path)))
        assert status_of(child) == 0
        # The last process to close the file removes the log; this one has it open.
        log = tmp_path / "jobs.db-wal"
        inode = log.stat().st_ino
        done = await asyncio.create_subprocess_exec(sys.executable, "-c", code, storage.path)
        assert await done.wait() == 0
        assert log.stat().st_ino == inode
        await storage.add([new_job()])
        assert (await storage.counts())["default"][JobState.PENDING] == 2


async def test_the_storage_of_the_parent_is_refused_in_a_child(tmp_path: Path) -> None:
    async def use(storage: SqliteQueueStorage) -> None:
        with pytest.raises(StorageError, match="before this process was forked; open one of its own"):
            await storage.add([new_job()])
        await storage.close()
        async with storage:
            await storage.add([new_job()])

    async with SqliteQueueStorage(tmp_path / "jobs.db") as storage:
        assert status_of(fork(lambda: asyncio.run(use(storage)))) == 0
        assert (await storage.counts())["default"][JobState.PENDING] == 1


async def test_a_fork_waits_for_the_transaction_under_way_whose_lock_the_child_would_inherit(tmp_path: Path) -> None:
    entered, forking, leave = threading.Event(), threading.Event(), threading.Event()
    os.register_at_fork(before=forking.set)  # called before the storage's own

    def hold(transaction: Transaction) -> None:
        entered.set()
        leave.wait()

    async with SqliteQueueStorage(tmp_path / "jobs.db") as storage:
        held = asyncio.create_task(storage._file().writer.call(hold))
        await asyncio.to_thread(entered.wait)
        child = asyncio.create_task(asyncio.to_thread(fork, lambda: asyncio.run(add(storage.path))))
        await asyncio.to_thread(forking.wait)
        leave.set()
        assert status_of(await child) == 0
        await held
        assert await storage.get([new_id()]) == [None]
