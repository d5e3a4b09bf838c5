"""Translating psycopg's errors into jobq's."""

from __future__ import annotations

from collections.abc import Collection

import psycopg

from jobq_core.errors import SchemaError, StorageError, StorageReadOnlyError, StorageUnavailableError
from jobq_storage_postgres.grants import denied

AGAIN = ("40001", "40P01")
"""Serialization failure, deadlock: rolled back, and worth repeating at once."""

STALE = ("0A000", "26000", "42P05")
"""A prepared statement that the server no longer runs: rolled back, and to be repeated on another connection."""

# Conditions that may pass: connections, resources, an operator's action, a lock or a statement that took too long.
_AWAY = ("08", "53", "57", "58", "55P03", "25P03", "25P04", "XX000")
READ_ONLY = "25006"
"""A write on a standby, or where default_transaction_read_only is on."""
_MISSING = ("42P01", "3F000", "42883", "42703")


def caused_by(error: BaseException, *kinds: type[psycopg.Error]) -> bool:
    """Return whether an error is the driver's of one of these kinds, or made from it."""
    return isinstance(error, kinds) or isinstance(error.__cause__, kinds)


def translate(error: psycopg.Error, user: str = "", names: Collection[str] = ()) -> StorageError:
    """Return jobq's error for the driver's, to be raised from it.

    user: the role of the connection. names: the names of the statements. The server's DETAIL and CONTEXT are removed
    from the driver's error, as they may contain the arguments of jobs.
    """
    code = error.sqlstate
    if (primary := error.diag.message_primary) is not None:
        hint = error.diag.message_hint
        error.args = (f"{primary} (hint: {hint})" if hint else primary,)
    said = str(error).strip() or type(error).__name__
    if code is None and isinstance(error, psycopg.DataError):
        return StorageError(f"PostgreSQL returned a value that Python cannot represent: {said}")
    if code is None:
        # Only the server's own errors have a code; without one the connection failed.
        return StorageUnavailableError(f"PostgreSQL cannot be reached: {said}")
    if code in AGAIN:
        return StorageUnavailableError(f"PostgreSQL rolled back repeatedly because of concurrent changes: {said}")
    if code == READ_ONLY:
        return StorageReadOnlyError(
            f"PostgreSQL refuses writes ({said}): it is a standby, or default_transaction_read_only is on. Give the "
            "address of the primary, or of all servers with target_session_attrs=read-write, which finds it"
        )
    if code.startswith(_AWAY):
        return StorageUnavailableError(f"PostgreSQL cannot serve now: {said}")
    if code == "42501" and error.diag.source_function == "check_enable_rls":
        return StorageError(
            f"row level security would hide jobs from role {user!r}: {primary}; have the owner of the tables run ALTER "
            f"TABLE … DISABLE ROW LEVEL SECURITY, or an administrator ALTER ROLE {user} BYPASSRLS"
        )
    if code == "42501":
        return denied(primary or said, user, names)
    if code in _MISSING:
        return SchemaError(f"the tables are missing or of another version, run `jobq migrate`: {said}")
    return StorageError(f"PostgreSQL refused: {said}")
