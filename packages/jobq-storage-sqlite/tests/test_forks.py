"""A process forks between the transactions of its SQLite storages."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import warnings
from contextlib import closing
from pathlib import Path

from jobq_core.ids import new_id
from jobq_storage_sqlite import SqliteQueueStorage
from jobq_storage_sqlite.transaction import Transaction


def forked_child_writes(path: Path) -> bool:
    """Fork, and return whether the child gets the write lock at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of newer Pythons: this process has threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


async def test_a_fork_waits_for_the_transaction_under_way_whose_lock_the_child_would_inherit(tmp_path: Path) -> None:
    entered, forking, leave = threading.Event(), threading.Event(), threading.Event()
    os.register_at_fork(before=forking.set)  # called before the storage's own

    def hold(transaction: Transaction) -> None:
        entered.set()
        leave.wait()

    async with SqliteQueueStorage(tmp_path / "jobs.db") as storage:
        held = asyncio.create_task(storage._file().writer.call(hold))
        await asyncio.to_thread(entered.wait)
        forked = asyncio.create_task(asyncio.to_thread(forked_child_writes, storage.path))
        await asyncio.to_thread(forking.wait)
        leave.set()
        assert await forked
        await held
        assert await storage.get([new_id()]) == [None]
