"""Connections to the file, as every part of this package wants them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jobq_core.errors import ConfigurationError, StorageError
from jobq_storage_sqlite.errors import code_of

OLDEST: Final = (3, 38, 0)
"""The SQLite that is needed: it brought json_each as a matter of course; STRICT tables and RETURNING are older."""

LOG_SIZE: Final = 64 * 1024 * 1024
"""Bytes that the write-ahead log keeps on the disk after it was longer."""

Look = Callable[[sqlite3.Connection, str], None]
"""Looks at a file and raises what is wrong with it."""


def connect(
    path: Path,
    synchronous: str,
    busy_timeout: float,
    *,
    create: bool = False,
    reads: bool = False,
    known: Look | None = None,
) -> sqlite3.Connection:
    """Open a connection of the calling thread; transactions are begun by hand.

    synchronous: 'FULL' or another value of the pragma. busy_timeout: seconds to wait for other connections' locks.
    create: whether the file may be made. reads: whether the connection is only to read. known: looks at the file before
    anything is written to it, and raises what is wrong. Raises sqlite3.Error.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        raise ConfigurationError(f"jobq needs SQLite 3.38 or newer; this Python has {sqlite3.sqlite_version}")
    mode = "rwc" if create else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", timeout=busy_timeout, isolation_level=None, uri=True
    )
    try:
        if known is not None:
            known(connection, str(path))
        # The reader's snapshots beside the writer need the log; switching to it is lasting, and nothing if done before.
        _use_log(connection, busy_timeout)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_SIZE}")
        if reads:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_log(connection: sqlite3.Connection, busy_timeout: float) -> None:
    # Where several connections make the switch at once, SQLite answers BUSY without waiting for its timeout.
    patience = time.monotonic() + busy_timeout
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() > patience:
                raise
            time.sleep(0.01)
        else:
            if mode != "wal":
                raise StorageError(f"SQLite cannot keep a write-ahead log for this file (its journal is {mode!r})")
            return
