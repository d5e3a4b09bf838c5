"""Whether the files that a connection has open are still those at its path.

SQLite keeps using the files that it opened, whatever happens to their names
(https://www.sqlite.org/howtocorrupt.html). There are three: the database, its log (`-wal`), and the log's index
(`-shm`), which holds the locks. Writes to a deleted or replaced file are lost: later openers see the new file. So each
commit is confirmed by one comparison of inodes before it is acknowledged:

- The database is missing: nothing is read or written until it is back. None is made in its place.
- Another database, log or index is there: nothing is read or written until all processes are started again. What the
  log holds is put into the database first, so that it survives them.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from jobq_core.errors import StorageUnavailableError
from jobq_storage_sqlite.file_warnings import FileWarnings

SETTLED_SECONDS: Final = 2.0
"""The age at which a folder's time of change tells a later change apart: some disks keep it as coarsely as that."""

GONE: Final = "it was deleted or moved away while in use; put it back. Until then nothing is read or written"
REPLACED: Final = "another file was put in its place while in use"
LOG_GONE: Final = "its log (-wal) or the log's index (-shm) was deleted or replaced while in use"
RESTART: Final = "stop all processes that use the file, this one too, then start them again"

Inode = tuple[int, int]
"""A file's device and inode."""
Stamp = tuple[int, int, int, int]
"""A folder's device and inode, and when a name in it last changed, in nanoseconds: mtime, and ctime, which cannot be
set."""


class Files(NamedTuple):
    """The database, its log and the log's index; None where a file is missing."""

    database: Inode | None
    log: Inode | None
    shm: Inode | None


class FileIdentity:
    """The files that one connection has open."""

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection], warnings: FileWarnings) -> None:
        self._path = os.fspath(path)
        self._connect = connect
        self._warnings = warnings
        self._names = (self._path, "", "")
        self._folder = ""
        self._held: Files | None = None
        self._unchanged: Stamp | None = None
        self._saved = False
        self.is_suspect = False
        """Whether the last comparison failed, so that the next operation is to compare before it begins."""

    def open(self) -> sqlite3.Connection:
        """Connect to the file and remember its inodes.

        Raises sqlite3.Error; StorageUnavailableError if another database is at the path than at the first connection.
        """
        if self._held is not None and self._inode(self._path) not in (None, self._held.database):
            self._refuse(f"{REPLACED}; {RESTART}")
        connection = self._connect()
        try:
            # SQLite follows links, and names the log after the file that it comes to.
            name = os.path.realpath(self._path)
            self._names = (self._path, f"{name}-wal", f"{name}-shm")
            self._folder = os.path.dirname(name)  # noqa: PTH120
            # The first to read opens, or makes, the log.
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            found = self._look()
            if None in found or (self._held is not None and found.database != self._held.database):
                raise StorageUnavailableError(
                    f"SQLite file {self._path}: it was deleted, moved or replaced while it was opened"
                )
        except BaseException:
            connection.close()
            raise
        self._held, self._unchanged, self.is_suspect, self._saved = found, None, False, False
        return connection

    def matches(self) -> bool:
        """Whether all three files are in their places."""
        # While no name in their folder changes, log and index stay. To look at the log itself costs more: os.stat asks
        # for its times too, and makes the next write to it dearer (one add at a time 0.9 x;
        # https://www.kernel.org/doc/html/latest/filesystems/multigrain-ts.html).
        stamp = self._stamp()
        if stamp is not None and stamp == self._unchanged:
            return self._held is not None and self._inode(self._path) == self._held.database
        if self._look() != self._held:
            return False
        if stamp is not None and abs(time.time() - max(stamp[2:]) / 1e9) > SETTLED_SECONDS:
            self._unchanged = stamp
        return True

    def verify(self, connection: sqlite3.Connection) -> None:
        """Raise StorageUnavailableError unless all three files are in their places."""
        if self.matches():
            if self.is_suspect:
                self.is_suspect = self._saved = False
                self._warnings.clear("files", f"SQLite file {self._path}: it is back")
            return
        self.is_suspect, found, held = True, self._look(), self._held
        if found.database is None:
            self._refuse(GONE)
        assert held is not None
        if found.database != held.database or found.log != held.log:
            self._save(connection)
        self._refuse(f"{REPLACED if found.database != held.database else LOG_GONE}; {RESTART}")

    def _save(self, connection: sqlite3.Connection) -> None:
        """Put what the log holds into the database that this connection has open; once, as others may use it next."""
        if self._saved:
            return
        try:
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            self._refuse(f"what its log (-wal) holds cannot be put into it: {error}", error)
        if busy:
            self._refuse("what its log (-wal) holds is not put into it yet, since another connection reads it")
        self._saved = True

    def _refuse(self, why: str, error: BaseException | None = None) -> NoReturn:
        sentence = f"SQLite file {self._path}: {why}"
        self._warnings.say("files", sentence)
        raise StorageUnavailableError(sentence) from error

    def _look(self) -> Files:
        return Files(*map(self._inode, self._names))

    def _inode(self, name: str) -> Inode | None:
        try:
            found = os.stat(name)  # noqa: PTH116 -- for each commit; a Path takes twice as long
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageUnavailableError(f"SQLite file {self._path}: {error}") from error
        return found.st_dev, found.st_ino

    def _stamp(self) -> Stamp | None:
        try:
            found = os.stat(self._folder)  # noqa: PTH116 -- for each commit
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns
