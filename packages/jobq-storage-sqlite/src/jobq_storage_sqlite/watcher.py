"""Watches for commits of other processes, in a thread of its own, while somebody in this process waits for them.

`PRAGMA data_version` says whether the file was changed through another connection: the cheapest question SQLite
answers, but one to be asked again and again. When it has changed, the counters of rings say what about.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import Final

import msgspec

from jobq_storage_sqlite.doorbell import Doorbell
from jobq_storage_sqlite.sqlfiles import sql

QUICK: Final = 0.001
"""Seconds between two looks."""

REST: Final = 0.5
"""Seconds before the file is opened again after an error."""

log = logging.getLogger("jobq.sqlite")


class Watcher:
    """The thread that looks. It is told by `attend` whether anybody waits, and rests while nobody does."""

    def __init__(self, path: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self.doorbell: Doorbell | None = None
        self._path = path
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._main, name="jobq-sqlite-watcher", daemon=True)

    def attend(self, wanted: bool) -> None:
        """Look from now on, or rest."""
        if wanted:
            if self._thread.ident is None:
                self._thread.start()
            self._wanted.set()
        else:
            self._wanted.clear()

    async def stop(self) -> None:
        """End the thread."""
        self._closing.set()
        self._wanted.set()
        if self._thread.ident is not None:
            await self._loop.run_in_executor(None, self._thread.join)

    def _main(self) -> None:
        while not self._closing.is_set():
            try:
                connection = self._connect()
                try:
                    self._watch(connection)
                finally:
                    connection.close()
            except sqlite3.Error as error:
                log.warning("SQLite file %s cannot be watched for other processes' changes now: %s", self._path, error)
                # Whoever waits looks for himself meanwhile.
                self._tell(self.doorbell.listened() if self.doorbell else [])
                self._closing.wait(REST)

    def _watch(self, connection: sqlite3.Connection) -> None:
        version = -1
        while not self._closing.is_set():
            self._wanted.wait()
            seen = connection.execute("PRAGMA data_version").fetchone()[0]
            if seen != version:
                version = seen
                self._look(connection)
            self._closing.wait(QUICK)

    def _look(self, connection: sqlite3.Connection) -> None:
        assert self.doorbell is not None
        topics = msgspec.json.encode(self.doorbell.listened()).decode()
        self._tell(self.doorbell.news(dict(connection.execute(sql("rings"), (topics,)))))

    def _tell(self, topics: list[str]) -> None:
        if not topics or self.doorbell is None:
            return
        try:
            self._loop.call_soon_threadsafe(self.doorbell.ring, topics)
        except RuntimeError:
            # The event loop ended without closing the storage: nobody waits any more.
            if not self._loop.is_closed():
                raise
            self._closing.set()
