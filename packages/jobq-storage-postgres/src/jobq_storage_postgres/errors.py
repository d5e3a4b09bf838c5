"""Which of the driver's errors is which of ours."""

from __future__ import annotations

from collections.abc import Collection

import psycopg

from jobq_core.errors import SchemaError, StorageError, StorageReadOnlyError, StorageUnavailableError
from jobq_storage_postgres.grants import denied

AGAIN = ("40001", "40P01")
"""Serialization failure, deadlock: undone altogether, and worth doing again at once."""

STALE = ("0A000", "26000", "42P05")
"""A prepared statement that the server will not run any more; undone, and to be done on another connection."""

# Not able to serve: connections, resources, an operator's doing, a lock, a statement or a pause that took too long.
_AWAY = ("08", "53", "57", "58", "55P03", "25P03", "25P04", "XX000")
READ_ONLY = "25006"
"""A write on a standby, or where default_transaction_read_only is on."""
_MISSING = ("42P01", "3F000", "42883", "42703")


def translate(error: psycopg.Error, user: str = "", names: Collection[str] = ()) -> StorageError:
    """Return our error for the driver's, to be raised from it. user, names: who ran which statements.

    What the server tells of the values at hand (DETAIL, CONTEXT) is taken out of the driver's error too: there may be
    arguments among them.
    """
    code = error.sqlstate
    if (primary := error.diag.message_primary) is not None:
        hint = error.diag.message_hint
        error.args = (f"{primary} (hint: {hint})" if hint else primary,)
    said = str(error).strip() or type(error).__name__
    if code is None and isinstance(error, psycopg.DataError):
        return StorageError(f"PostgreSQL has kept what Python cannot read: {said}")
    if code is None:
        # Only an answer of the server has a code; without one it was the connection that failed.
        return StorageUnavailableError(f"PostgreSQL cannot be reached: {said}")
    if code in AGAIN:
        return StorageUnavailableError(f"PostgreSQL gave up again and again, for concurrent changes: {said}")
    if code == READ_ONLY:
        return StorageReadOnlyError(
            f"PostgreSQL takes no writes here ({said}): it is a standby, or default_transaction_read_only is on. Give "
            "the address of the primary, or of all servers with target_session_attrs=read-write, which finds it"
        )
    if code.startswith(_AWAY):
        return StorageUnavailableError(f"PostgreSQL cannot serve now: {said}")
    if code == "42501":
        return denied(primary or said, user, names)
    if code in _MISSING:
        return SchemaError(f"the tables are missing or of another version, run `jobq migrate`: {said}")
    return StorageError(f"PostgreSQL refused: {said}")
