"""Sessions over connections of psycopg 3, with any row factory, in autocommit or in a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any, Final

import psycopg
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.pq import Format, TransactionStatus
from psycopg.rows import tuple_row

from jobq_storage_postgres.adapters import ADAPTERS
from jobq_storage_postgres.binary import Params
from jobq_storage_postgres.caller_sessions import AsyncCallerSession, SyncCallerSession, check_encoding, check_open
from jobq_storage_postgres.programs import Rows
from jobq_storage_postgres.protocol import Step

_OWN_TYPES: Final = ("bool", "bytea", "float8", "int2", "int4", "int8", "json", "text", "timestamptz", "uuid")


class AsyncPsycopgSession(AsyncCallerSession):
    """Over a psycopg.AsyncConnection."""

    def __init__(self, driver: psycopg.AsyncConnection[Any]) -> None:
        super().__init__(driver)
        self._connection = driver

    def check_usable(self) -> None:
        _check(self._connection)
        self.user = self._connection.info.user

    async def run(self, steps: Sequence[Step]) -> Rows:
        rows: Rows = []
        for statement, params in steps:
            async with psycopg.AsyncRawCursor(self._connection, row_factory=tuple_row) as cursor:
                _adapt(cursor.adapters)
                await cursor.execute(statement.sql, _packed(params), binary=True)
                rows.append(await cursor.fetchall() if statement.has_rows else [])
        return rows

    def atomic(self) -> AbstractAsyncContextManager[Any]:
        return self._connection.transaction() if _is_alone(self._connection) else nullcontext()


class PsycopgSession(SyncCallerSession):
    """Over a psycopg.Connection."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        super().__init__(driver)
        self._connection = driver

    def check_usable(self) -> None:
        _check(self._connection)
        self.user = self._connection.info.user

    def run(self, steps: Sequence[Step]) -> Rows:
        rows: Rows = []
        for statement, params in steps:
            with psycopg.RawCursor(self._connection, row_factory=tuple_row) as cursor:
                _adapt(cursor.adapters)
                cursor.execute(statement.sql, _packed(params), binary=True)
                rows.append(cursor.fetchall() if statement.has_rows else [])
        return rows

    def atomic(self) -> AbstractContextManager[Any]:
        return self._connection.transaction() if _is_alone(self._connection) else nullcontext()


def _check(connection: psycopg.BaseConnection[Any]) -> None:
    check_open(connection.closed)
    encoding = connection.pgconn.parameter_status(b"client_encoding")
    check_encoding("UTF8" if encoding is None else encoding.decode(errors="replace"))


def _is_alone(connection: psycopg.BaseConnection[Any]) -> bool:
    """Return whether each statement would be committed by itself."""
    return connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE


def _adapt(adapters: AdaptersMap) -> None:
    """Let a cursor pass packed parameters on, and load rows as ours do, whatever the caller registered."""
    adapters.register_dumper(_Packed, _PackedDumper)
    for name, loader in _LOADERS.items():
        adapters.register_loader(name, loader)


def _packed(params: Params) -> list[_Packed | None]:
    return [None if param is None else _Packed(param) for param in params]


class _Packed:
    """A parameter that is in binary format already."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class _PackedDumper(Dumper):
    """Passes the data on; the statement's casts give its type."""

    format = Format.BINARY
    oid = 0

    def dump(self, obj: _Packed) -> bytes:
        return obj.data


_LOADERS: Final[dict[str, Any]] = {
    name: ADAPTERS.get_loader(ADAPTERS.types[name].oid, Format.BINARY) for name in _OWN_TYPES
}
