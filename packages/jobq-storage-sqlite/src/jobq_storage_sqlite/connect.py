"""Opening connections to the file."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

from jobq_core.errors import ConfigurationError, StorageError
from jobq_storage_sqlite.columns import to_text
from jobq_storage_sqlite.errors import code_of
from jobq_storage_sqlite.forks import Connection, ReadConnection, close_inherited, gate
from jobq_storage_sqlite.sql_functions import add_functions

OLDEST: Final = (3, 38, 0)
"""The oldest SQLite that works: json_each is built in since then; STRICT tables and RETURNING are older."""

READ_CACHE_KIB: Final = 65_536
"""The largest cache of a connection that reads, in KiB: a page of operators may read 100,000 jobs, with SQLite's usual
2 MB up to twice as slowly. A process that reads few jobs uses little of it."""

LOG_BYTES: Final = 64 * 1024 * 1024
"""The size to which the write-ahead log is cut back, in bytes, after it was longer."""

_RETRY_SECONDS: Final = 0.01


def connect(
    path: Path, synchronous: str, busy_timeout: float, *, create: bool = False, reads: bool = False
) -> sqlite3.Connection:
    """Open a connection of the calling thread, on which transactions begin by an explicit BEGIN.

    path: absolute. synchronous: the value of the pragma. busy_timeout: seconds to wait for other connections' locks.
    create: whether a missing file is made. reads: whether the connection refuses to write. Raises sqlite3.Error.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        raise ConfigurationError(f"jobq needs SQLite 3.38 or newer; this Python has {sqlite3.sqlite_version}")
    mode = "rwc" if create else "rw"
    factory = ReadConnection if reads else Connection
    with gate.lock:
        close_inherited()
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode={mode}",
            timeout=busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=factory,
            uri=True,
        )
    try:
        _use_log(connection, busy_timeout)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        if reads:
            connection.text_factory = to_text
            add_functions(connection)
            connection.execute("PRAGMA query_only = ON")
            connection.execute(f"PRAGMA cache_size = -{READ_CACHE_KIB}")
    except BaseException:
        connection.close()
        raise
    return connection


def _use_log(connection: sqlite3.Connection, busy_timeout: float) -> None:
    """Switch the file to the write-ahead log, which lasts; reads beside a writer need it."""
    # When several connections switch at once, SQLite answers BUSY without waiting for its timeout.
    give_up_at = time.monotonic() + busy_timeout
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            if mode != "wal":
                raise StorageError(f"SQLite cannot keep a write-ahead log for this file (its journal is {mode!r})")
            return
