"""Watches for commits of other processes, in a thread of its own, while somebody in this process waits for them.

`PRAGMA data_version` says whether the file was changed through another connection, but it has to be asked. Asking every
millisecond finds a change in half of one, at 2 % of a processor; so it is asked when the kernel hints that the log was
written to. Where there are no hints, or a change came without one, it is asked every few milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from jobq_core.errors import StorageUnavailableError
from jobq_storage_sqlite.columns import to_array
from jobq_storage_sqlite.file_identity import FileIdentity
from jobq_storage_sqlite.inotify import Inotify, watch_writes
from jobq_storage_sqlite.notifier import Notifier
from jobq_storage_sqlite.sql import sql

STEPS: Final = (0.0003, 0.0004, 0.0007, 0.0015, 0.003, 0.008, 0.02, 0.06, 0.25)
"""Seconds between looks after a hint: it comes when the log is written, the change when the disk has confirmed it."""

UNHINTED: Final = 1.0
"""Seconds until a look without a hint, in case they do not come."""

POLLS: Final = (0.002, 0.005)
"""Seconds between looks where there are no hints: soon after a change, and later."""

SOON: Final = 2.0
"""Seconds that count as soon after a change."""

REST: Final = 0.5
"""Seconds before the file is opened again after an error."""

log = logging.getLogger("jobq.sqlite")


class ChangeWatcher:
    """The thread that looks. It is told by `attend` whether anybody waits, and rests while nobody does."""

    def __init__(self, path: Path, place: FileIdentity, notifier: Notifier) -> None:
        self._path = path
        self._place = place
        self._notifier = notifier
        self._loop = asyncio.get_running_loop()
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._hints: Inotify | None = None
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
        with self._lock:
            if self._hints is not None:
                self._hints.poke()
        if self._thread.ident is not None:
            await self._loop.run_in_executor(None, self._thread.join)

    def _main(self) -> None:
        while not self._closing.is_set():
            try:
                with closing(self._place.open()) as connection:
                    self._stay(connection)
            except sqlite3.Error as error:
                log.warning(
                    "SQLite file %s cannot be watched for changes by other processes now: %s", self._path, error
                )
                self._pause()
            except StorageUnavailableError:  # told and logged by the place
                self._pause()

    def _stay(self, connection: sqlite3.Connection) -> None:
        """Watch, through times in which the file is away too, until another is in its place."""
        while not self._closing.is_set():
            try:
                if not self._place.same(connection):
                    # It counts its rings from elsewhere.
                    self._notifier.forget()
                    self._tell(self._notifier.listened())
                    return
                self._watch(_Version(connection, self._place, self._notifier, self._tell))
            except StorageUnavailableError:
                self._pause()

    def _pause(self) -> None:
        # Whoever waits looks for himself meanwhile.
        self._tell(self._notifier.listened())
        self._closing.wait(REST)

    def _watch(self, version: _Version) -> None:
        version.look()
        # The log is there now that the file was read; it stays the same file while a connection is open.
        hints = watch_writes(self._path.with_name(self._path.name + "-wal"))
        if hints is not None:
            with hints:
                self._set_hints(hints)
                try:
                    self._follow(version, hints)
                finally:
                    self._set_hints(None)
        self._poll(version)

    def _set_hints(self, hints: Inotify | None) -> None:
        with self._lock:
            self._hints = hints

    def _follow(self, version: _Version, hints: Inotify) -> None:
        """Look after each hint; returns when a change came without one."""
        step = 0
        while not self._closing.is_set():
            if self._rested() or version.look():
                step = 0
            if step < 3:
                time.sleep(STEPS[step])
                step += 1
            elif step < len(STEPS):
                step = 0 if hints.wait(STEPS[step]) else step + 1
            elif hints.wait(UNHINTED):
                step = 0
            elif version.look() and not hints.wait(0):
                log.debug("SQLite file %s: changes come without hints from the kernel; polling for them", self._path)
                return

    def _poll(self, version: _Version) -> None:
        """Look all the time."""
        changed = time.monotonic()
        while not self._closing.is_set():
            if self._rested() or version.look():
                changed = time.monotonic()
            self._closing.wait(POLLS[time.monotonic() > changed + SOON])

    def _rested(self) -> bool:
        """Rest while nobody waits; True if there was time to."""
        if self._wanted.is_set():
            return False
        self._wanted.wait()
        return True

    def _tell(self, topics: list[str]) -> None:
        if not topics:
            return
        try:
            self._loop.call_soon_threadsafe(self._notifier.ring, topics)
        except RuntimeError:
            # The event loop ended without closing the storage: nobody waits any more.
            if not self._loop.is_closed():
                raise
            self._closing.set()


class _Version:
    """The version of the file that was looked at last."""

    def __init__(
        self, connection: sqlite3.Connection, place: FileIdentity, notifier: Notifier, tell: Callable[[list[str]], None]
    ) -> None:
        self._connection = connection
        self._place = place
        self._notifier = notifier
        self._tell = tell
        self._seen = -1

    def look(self) -> bool:
        """Say whether the file was changed since the last look, and ring for what rang in it meanwhile.

        Raises StorageUnavailableError if it is not at its path any more.
        """
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version == self._seen:
            self._place.confirm()
            return False
        self._seen = version
        topics = to_array(self._notifier.listened())
        self._tell(self._notifier.news(dict(self._connection.execute(sql("rings"), (topics,)))))
        return True
