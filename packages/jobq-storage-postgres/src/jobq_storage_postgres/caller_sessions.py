"""The connections of callers, by driver: each runs programs, as psycopg would, in the caller's transaction."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import psycopg

from jobq_core.errors import ConfigurationError
from jobq_storage_postgres.programs import Rows
from jobq_storage_postgres.protocol import Step


class CallerSession(abc.ABC):
    """What sessions of all drivers have.

    driver: the connection of the driver. user: its role, '' if the driver does not say.
    """

    def __init__(self, driver: Any, user: str = "") -> None:
        self.driver = driver
        self.user = user

    @abc.abstractmethod
    def check_usable(self) -> None:
        """Check what may change at any time. Raises ConfigurationError."""


class AsyncCallerSession(CallerSession):
    """A connection for event loops."""

    @abc.abstractmethod
    async def run(self, steps: Sequence[Step]) -> Rows:
        """Run statements and return the rows of each. Raises psycopg.Error; its cause is the driver's, if another."""

    @abc.abstractmethod
    def atomic(self) -> AbstractAsyncContextManager[Any]:
        """Return a context that keeps statements together: the caller's transaction, or in autocommit one of ours."""


class SyncCallerSession(CallerSession):
    """A connection for threads; see AsyncCallerSession."""

    @abc.abstractmethod
    def run(self, steps: Sequence[Step]) -> Rows: ...

    @abc.abstractmethod
    def atomic(self) -> AbstractContextManager[Any]: ...


def check_open(closed: bool) -> None:
    """Raise ConfigurationError for a closed connection."""
    if closed:
        raise ConfigurationError("connection= is closed: pass an open connection")


def check_encoding(encoding: str) -> None:
    """Raise ConfigurationError unless texts pass unchanged. encoding: the connection's client_encoding."""
    if encoding not in ("UTF8", "UNICODE"):
        raise ConfigurationError(
            f"connection= has the client_encoding {encoding}, which would change or refuse what jobs contain: connect "
            "with client_encoding='utf8'"
        )


def as_psycopg(sqlstate: str | None, message: str) -> psycopg.Error:
    """Return psycopg's error for one of another driver. sqlstate: None if the connection failed."""
    kind = psycopg.OperationalError if sqlstate is None else _kind_of(sqlstate)
    return kind(message)


def _kind_of(sqlstate: str) -> type[psycopg.Error]:
    try:
        return psycopg.errors.lookup(sqlstate)
    except KeyError:
        return type("UnknownError", (psycopg.DatabaseError,), {"sqlstate": sqlstate})
