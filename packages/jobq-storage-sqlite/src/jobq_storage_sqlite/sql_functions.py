"""SQL functions of connections that read, for what SQLite itself cannot compare.

SQLite compares no JSON, knows upper and lower case in ASCII only, and makes no id of a number.
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from typing import Any

import msgspec

from jobq_core.storage import searching
from jobq_storage_sqlite.spans import start_of


def add_functions(connection: sqlite3.Connection) -> None:
    """Add the functions to a connection."""
    connection.create_function("jobq_contains", 2, contains, deterministic=True)
    connection.create_function("jobq_has_argument", 3, has_argument, deterministic=True)
    connection.create_function("jobq_start_of", 1, start_of, deterministic=True)


def contains(message: str | None, text: str) -> bool:
    """Return whether a message contains a text, which is in lower case, in upper or lower case."""
    return message is not None and text in message.lower()


def has_argument(arguments: bytes, meta: bytes | None, asked: bytes) -> bool:
    """Return whether a job has an argument that is not a Secret. asked: its name and value, as a JSON array."""
    name, value = _decoded(asked)
    return searching.has_argument(arguments, meta, name, value)


@lru_cache(maxsize=1)
def _decoded(asked: bytes) -> Any:
    return msgspec.json.decode(asked)
