"""From the driver's errors to jobq's own. The driver's errors leave this package as causes only."""

from __future__ import annotations

import sqlite3
from typing import Final

from jobq_core.errors import SchemaError, StorageError, StorageReadOnlyError, StorageUnavailableError

_PASSING: Final = {
    sqlite3.SQLITE_BUSY: "another connection kept it locked for longer than busy_timeout",
    sqlite3.SQLITE_LOCKED: "another connection holds a table of it",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: check that it and its folder exist and are open to this user",
    sqlite3.SQLITE_FULL: "the disk is full, or the file has reached its largest size",
    sqlite3.SQLITE_IOERR: "the disk failed",
    sqlite3.SQLITE_INTERRUPT: "the statement was stopped at its time limit",
    sqlite3.SQLITE_PROTOCOL: "SQLite could not lock it",
    sqlite3.SQLITE_NOMEM: "no memory was left",
}
"""Errors that may be over by the next try."""

_LASTING: Final = {
    sqlite3.SQLITE_NOTADB: "the file is not an SQLite database",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore a backup",
}

_READ_ONLY: Final = "this user may not write to the file or its folder"

_BROKEN: Final = frozenset(
    # READONLY is here, since a file that was moved or replaced under the connection gives it too.
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
    """Return the primary result code (https://www.sqlite.org/rescode.html), 0 for an error of the driver itself."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def breaks_connection(error: BaseException) -> bool:
    """Whether the connection should be closed, and another opened, after this error."""
    return isinstance(error, sqlite3.Error) and code_of(error) in _BROKEN


def translate(error: sqlite3.Error, path: str) -> StorageError:
    """Return the jobq error to raise for this one."""
    code = code_of(error)
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY_SNAPSHOT:
        return StorageUnavailableError(
            f"SQLite file {path}: another connection wrote after this transaction read; roll it back, and begin it "
            f"again with BEGIN IMMEDIATE ({error})"
        )
    if code in _PASSING:
        return StorageUnavailableError(f"SQLite file {path}: {_PASSING[code]} ({error})")
    if code == sqlite3.SQLITE_READONLY:
        return StorageReadOnlyError(f"SQLite file {path}: {_READ_ONLY} ({error})")
    if code in _LASTING:
        return StorageError(f"SQLite file {path}: {_LASTING[code]} ({error})")
    if str(error).startswith(("no such table", "no such column")):
        return SchemaError(f"SQLite file {path}: its tables are missing, or differ from those of this code ({error})")
    return StorageError(f"SQLite file {path}: {error}")


def as_raised(error: BaseException, path: str) -> BaseException:
    """Return the error that the caller of an operation gets for this one, with this one as its cause."""
    if isinstance(error, sqlite3.Error):
        raised = translate(error, path)
    elif isinstance(error, OverflowError):
        # The driver raises it for a number that a column has no room for.
        raised = StorageError(f"SQLite file {path}: {error}")
    else:
        return error
    raised.__cause__ = error
    return raised
