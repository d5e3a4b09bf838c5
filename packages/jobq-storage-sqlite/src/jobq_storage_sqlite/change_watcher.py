"""Finds the commits of other processes, in a thread of its own, while a subscription waits.

`PRAGMA data_version` changes when another connection commits, but it has to be polled. A poll each millisecond finds a
change within half of one and costs 2 % of a processor. So it is polled after each hint of the kernel that the log was
written to. Where hints do not come, it is polled every few milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from jobq_core.errors import StorageUnavailableError
from jobq_storage_sqlite.columns import to_array
from jobq_storage_sqlite.file_identity import FileIdentity
from jobq_storage_sqlite.inotify import Inotify, watch_writes
from jobq_storage_sqlite.notifier import SqliteNotifier
from jobq_storage_sqlite.sql import sql

STEPS_SECONDS: Final = (0.0003, 0.0004, 0.0007, 0.0015, 0.003, 0.008, 0.02, 0.06, 0.25)
"""The pauses between polls after a hint. It comes with the write to the log, the change once the disk confirms it."""
SLEPT: Final = 3
"""How many of these pauses are slept through; new hints end the others."""

UNHINTED_SECONDS: Final = 1.0
"""The pause before a poll without a hint, which shows whether hints come at all."""

POLL_SECONDS: Final = (0.002, 0.005)
"""The pause between polls where hints do not come: soon after a change, and later."""
SOON_SECONDS: Final = 2.0

RETRY_SECONDS: Final = 0.5
"""The pause after an error."""

log = logging.getLogger("jobq.sqlite")


class ChangeWatcher:
    """The thread, and the version of the file that it saw last. It rests while no subscription waits."""

    def __init__(self, path: Path, identity: FileIdentity, notifier: SqliteNotifier) -> None:
        self._path = path
        self._identity = identity
        self._notifier = notifier
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._hints: Inotify | None = None
        self._seen = -1
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name="jobq-sqlite-watcher", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._notifier.waiting.set()
        with self._lock:
            if self._hints is not None:
                self._hints.wake()
        # Not by an executor, which cannot be used any more when the interpreter exits.
        await self._ended.wait()

    def _main(self) -> None:
        self._work()
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._ended.set)

    def _work(self) -> None:
        self._notifier.waiting.wait()
        while not self._closing.is_set():
            try:
                with closing(self._identity.open()) as connection:
                    self._seen = -1
                    self._watch(connection)
            except sqlite3.Error as error:
                log.warning("SQLite file %s: could not look for changes by other processes: %s", self._path, error)
                self._pause()
            except StorageUnavailableError:  # which FileIdentity logs
                self._pause()

    def _watch(self, connection: sqlite3.Connection) -> None:
        """Watch on one connection, which outlives times in which the file is away."""
        while not self._closing.is_set():
            try:
                self._identity.verify(connection)
                self._poll_once(connection)
                # The log exists now that the file was read; it stays the same file while a connection is open.
                hints = watch_writes(self._path.with_name(self._path.name + "-wal"))
                if hints is not None:
                    with hints:
                        self._set_hints(hints)
                        try:
                            self._follow(connection, hints)
                        finally:
                            self._set_hints(None)
                self._poll(connection)
            except StorageUnavailableError:
                self._pause()

    def _pause(self) -> None:
        # Those who wait look for themselves meanwhile.
        self._notifier.deliver(self._notifier.topics)
        self._closing.wait(RETRY_SECONDS)

    def _set_hints(self, hints: Inotify | None) -> None:
        with self._lock:
            self._hints = hints

    def _follow(self, connection: sqlite3.Connection, hints: Inotify) -> None:
        """Poll after each hint; returns when a change came without one."""
        step = 0
        while not self._closing.is_set():
            if self._rested() or self._poll_once(connection):
                step = 0
            if step < SLEPT:
                time.sleep(STEPS_SECONDS[step])
                step += 1
            elif step < len(STEPS_SECONDS):
                step = 0 if hints.wait(STEPS_SECONDS[step]) else step + 1
            elif hints.wait(UNHINTED_SECONDS):
                step = 0
            elif self._poll_once(connection) and not hints.wait(0):
                log.debug("SQLite file %s: changes come without hints from the kernel; polling for them", self._path)
                return

    def _poll(self, connection: sqlite3.Connection) -> None:
        """Poll all the time."""
        changed = time.monotonic()
        while not self._closing.is_set():
            if self._rested() or self._poll_once(connection):
                changed = time.monotonic()
            self._closing.wait(POLL_SECONDS[time.monotonic() > changed + SOON_SECONDS])

    def _rested(self) -> bool:
        """Rest while no subscription waits; return whether there was time to."""
        if self._notifier.waiting.is_set():
            return False
        self._notifier.waiting.wait()
        return True

    def _poll_once(self, connection: sqlite3.Connection) -> bool:
        """Return whether the file was changed since the last poll, after delivering what was notified in it.

        Raises StorageUnavailableError if the file is not in its place.
        """
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version == self._seen:
            self._identity.verify(connection)
            return False
        self._seen = version
        topics = {"topics": to_array(self._notifier.topics)}
        self._notifier.deliver_counts(dict(connection.execute(sql("count_notifications"), topics)))
        return True
