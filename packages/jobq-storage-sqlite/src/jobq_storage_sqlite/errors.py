"""From the driver's errors to jobq's own: none of the driver's leaves this package but as a cause."""

from __future__ import annotations

import sqlite3
from typing import Final

from jobq_core.errors import SchemaError, StorageError, StorageReadOnlyError, StorageUnavailableError

_PASSING: Final = {
    sqlite3.SQLITE_BUSY: "another connection kept it locked for longer than busy_timeout",
    sqlite3.SQLITE_LOCKED: "another connection holds a table of it",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; do it and its folder exist, and may this user write there?",
    sqlite3.SQLITE_FULL: "the disk is full, or the file has reached its largest size",
    sqlite3.SQLITE_IOERR: "the disk failed",
    sqlite3.SQLITE_INTERRUPT: "the statement was stopped at its time limit",
    sqlite3.SQLITE_PROTOCOL: "its locks could not be had",
    sqlite3.SQLITE_NOMEM: "no memory was left",
}
"""What may be over by the next try."""

_LASTING: Final = {
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore a backup",
}

_READ_ONLY: Final = "the file or its folder may not be written to by this user"

_BROKEN: Final = frozenset(
    # READONLY too: it is also what a file that was moved or replaced under the connection gives.
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)


def code_of(error: sqlite3.Error) -> int:
    """Return the primary result code (https://www.sqlite.org/rescode.html), 0 where the driver itself refused."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def breaks_connection(error: BaseException) -> bool:
    """Say whether the connection is better opened anew after this error."""
    return isinstance(error, sqlite3.Error) and code_of(error) in _BROKEN


def translate(error: sqlite3.Error, path: str) -> StorageError:
    """Return the jobq error to raise from this one."""
    code = code_of(error)
    if code in _PASSING:
        return StorageUnavailableError(f"SQLite file {path}: {_PASSING[code]} ({error})")
    if code == sqlite3.SQLITE_READONLY:
        return StorageReadOnlyError(f"SQLite file {path}: {_READ_ONLY} ({error})")
    if code in _LASTING:
        return StorageError(f"SQLite file {path}: {_LASTING[code]} ({error})")
    if str(error).startswith(("no such table", "no such column")):
        return SchemaError(f"SQLite file {path}: its tables are missing, or others than this code needs ({error})")
    return StorageError(f"SQLite file {path}: {error}")
