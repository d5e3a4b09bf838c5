"""Whether the files that a connection has open still are those at its path.

SQLite goes on with the files that it opened, whatever becomes of their names
(https://www.sqlite.org/howtocorrupt.html): what is written to a file that was deleted, or that another was moved over,
nobody sees who comes later. There are three: the file itself, its log (`-wal`) and the log's index (`-shm`), in which
all who have the file open find their locks.

- The file is gone: nothing is read or written until it, or another, is there. The connection stays open, so that a file
  that comes back is gone on with, and a deleted one can still be had from the process. None is made in its place.
- Another file is there: it is taken, once it is complete. A log of the former file beside it, which SQLite would play
  into it, is put into the former one first, wherever that is, and removed.
- The log or its index is gone: those who come from now on would make new ones, and the two parties could not see each
  other's locks. So what the log held is put into the file, and this process uses it no more until it is started anew.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from jobq_core.errors import StorageError, StorageUnavailableError
from jobq_storage_sqlite.errors import translate
from jobq_storage_sqlite.migrations import require

QUIET: Final = 1.0
"""Seconds for which a file that nobody uses must not have changed before it is taken: it may be on its way here."""
RECENT: Final = 0.1
"""Seconds for which a look at all three files is good: it takes an eighth of the time that an add takes. After each
commit it is confirmed, so that nothing is acknowledged that went into files which nobody finds."""
SETTLED: Final = 2.0
"""Seconds after which a folder's time of change tells the next change from the last: so coarse is it on some disks."""

GONE: Final = "it was deleted or moved away while in use; put it back, or another in its place"
ANOTHER: Final = "another file was put in its place while it was in use"
LOG_GONE: Final = "its log (-wal) or the log's index (-shm) was deleted or replaced while in use"

log = logging.getLogger("jobq.sqlite")

Identity = tuple[int, int]
"""A file's device and inode."""
Stamp = tuple[int, int, int, int]
"""A folder's device and inode, and when a name in it last changed, in nanoseconds: mtime, and ctime, which nobody can
set back, as who restores a copy of the folder does with the other."""


class Trio(NamedTuple):
    """The file, its log and the log's index; None where there is none."""

    file: Identity | None
    log: Identity | None
    locks: Identity | None


class Notes:
    """What is to be told of the file's fate; shared by a storage's threads. `warning` is what holds now."""

    def __init__(self) -> None:
        self.warning: str | None = None
        self._said: set[tuple[str, Trio]] = set()

    def say(self, sentence: str, found: Trio) -> None:
        """Note it, and log it unless that was done."""
        self.warning = sentence
        # Each thread comes upon it by itself, and meets it again at each call.
        if (sentence, found) not in self._said:
            self._said.add((sentence, found))
            log.warning("%s", sentence)


class FileIdentity:
    """A path, and what one connection has open there. Belongs to the connection's thread."""

    def __init__(self, path: Path, connect: Callable[..., sqlite3.Connection], notes: Notes) -> None:
        self._path = os.fspath(path)
        self._connect = connect
        self._notes = notes
        self._names = (self._path, "", "")
        self._held: Trio | None = None
        self._folder = ""
        self._unchanged: Stamp | None = None
        self._troubled = False
        self._arriving: tuple[Any, float] | None = None
        self._looked_at = float("-inf")

    def open(self) -> sqlite3.Connection:
        """Connect to the file that is at the path now; never makes one.

        Raises sqlite3.Error; StorageUnavailableError where another file than before is there and cannot be used (yet).
        """
        if self._held is None:
            return self._hold(self._connect())
        if self._troubled or self._look().file != self._held.file:
            self._await_arrival()
        try:
            return self._hold(self._connect(known=require))
        except (sqlite3.Error, StorageError) as error:
            if self._troubled:
                said = translate(error, self._path) if isinstance(error, sqlite3.Error) else error
                self._refuse(f"{ANOTHER}, and cannot be used: {said}", error)
            raise

    def _hold(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        try:
            # SQLite follows links, and names the log after the file that it came to.
            name = os.path.realpath(self._path)
            self._names = (self._path, f"{name}-wal", f"{name}-shm")
            self._folder, self._unchanged = os.path.dirname(name), None  # noqa: PTH120
            # The log is opened, or made, by the first to read.
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            held = self._look()
            if None in held:
                raise StorageUnavailableError(f"SQLite file {self._path}: it was deleted or moved while it was opened")
            self._held = held
        except BaseException:
            connection.close()
            raise
        if self._troubled:
            self._troubled = False
            sentence = (
                f"SQLite file {self._path}: {ANOTHER}, and is used from now on; what was added to the former one "
                "after this was copied is not in it"
            )
            self._notes.say(sentence, self._held)
        return connection

    def _look(self) -> Trio:
        return Trio(*map(self._identity, self._names))

    def _identity(self, name: str) -> Identity | None:
        try:
            found = os.stat(name)  # noqa: PTH116 -- for each commit; a Path takes twice as long
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageUnavailableError(f"SQLite file {self._path}: {error}") from error
        return found.st_dev, found.st_ino

    def confirm(self) -> None:
        """Raise StorageUnavailableError if one of the three files is not in its place any more, and with it what was
        committed: all that others see of it may be the file without the log."""
        held, stamp = self._held, self._stamp()
        # While no name in their folder changes, log and index stay. To look at the log itself costs more: os.stat asks
        # for its times as well, and the next write to it is dearer then (one add at a time 0.9 x;
        # https://www.kernel.org/doc/html/latest/filesystems/multigrain-ts.html).
        unchanged = stamp is not None and stamp == self._unchanged
        if held is None or (self._identity(self._path) != held.file if unchanged else self._look() != held):
            self._looked_at = float("-inf")
            raise StorageUnavailableError(
                f"SQLite file {self._path}: it, its log or the log's index was deleted, moved or replaced during the "
                "operation"
            )
        if not unchanged and stamp is not None:
            self._unchanged = stamp if abs(time.time() - max(stamp[2:]) / 1e9) > SETTLED else None

    def _stamp(self) -> Stamp | None:
        try:
            found = os.stat(self._folder)  # noqa: PTH116 -- for each commit
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns

    def same(self, connection: sqlite3.Connection) -> bool:
        """Say whether the connection can be gone on with; if not, it is to be closed, and another opened.

        Raises StorageUnavailableError while there is nothing to go on with.
        """
        now = time.monotonic()
        if now - self._looked_at < RECENT:
            return True
        self._looked_at = float("-inf")
        found, held = self._look(), self._held
        if found == held:
            if self._troubled:
                self._troubled, self._notes.warning = False, None
                log.info("SQLite file %s: it is back", self._path)
            self._looked_at = now
            return True
        assert held is not None
        self._troubled = True
        if found.file is None:
            self._refuse(
                f"{GONE}. Until then nothing is taken or given out (a deleted file can still be had from process "
                f"{os.getpid()}, which has it open)"
            )
        if found.file == held.file:
            if found.log is None:
                self._save(connection)
            self._refuse(f"{LOG_GONE}; stop all processes that use the file, this one too, then start them again")
        if (found.log, found.locks) != (None, None):
            self._clear_away(connection)
        return False

    def _save(self, connection: sqlite3.Connection) -> None:
        """Put what the log holds into the file."""
        try:
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            self._refuse(f"what its log (-wal) holds cannot be put into it: {error}", error)
        if busy:
            self._refuse("what its log (-wal) holds is not yet put into it, since somebody still reads it; try again")

    def _clear_away(self, connection: sqlite3.Connection) -> None:
        """Remove the former file's log and index, where they still stand beside another file.

        All who have the former file open share one lock, which is held meanwhile: so none takes away what others have
        made since. The former files' numbers are not given to new ones, since they are open.
        """
        held = self._held
        assert held is not None
        if not any(there == ours for there, ours in zip(self._look()[1:], held[1:], strict=True)):
            return
        self._save(connection)
        connection.execute("PRAGMA query_only = OFF")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for name, ours in zip(self._names[1:], held[1:], strict=True):
                if self._identity(name) == ours:
                    Path(name).unlink()
        except OSError as error:
            self._refuse(f"{ANOTHER}, and the former one's log is in the way: {error}", error)
        finally:
            connection.execute("ROLLBACK")

    def _await_arrival(self) -> None:
        """Wait until the file at the path does not change any more, unless somebody uses it already."""
        self._troubled = True
        try:
            found = Path(self._path).stat()
        except OSError as error:
            self._refuse(GONE, error)
        if self._identity(self._names[2]) is not None:
            return
        state, now = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns), time.monotonic()
        if self._arriving is None or self._arriving[0] != state:
            self._arriving = (state, now)
        if now - self._arriving[1] < QUIET:
            self._refuse(f"{ANOTHER}; that one is used as soon as nobody has written to it for {QUIET:g} s")

    def _refuse(self, why: str, error: BaseException | None = None) -> NoReturn:
        sentence = f"SQLite file {self._path}: {why}"
        self._notes.say(sentence, self._look())
        raise StorageUnavailableError(sentence) from error
