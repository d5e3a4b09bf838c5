"""Sessions over connections of psycopg2, which sends parameters as text."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from psycopg.adapt import Transformer
from psycopg.pq import Format

from jobq_core.errors import ConfigurationError
from jobq_storage_postgres.adapters import ADAPTERS, AdapterContext
from jobq_storage_postgres.caller_sessions import SyncCallerSession, as_psycopg, check_encoding, check_open
from jobq_storage_postgres.programs import Rows
from jobq_storage_postgres.protocol import Statement, Step
from jobq_storage_postgres.text_format import TextStatement

_IDLE: Final = 0
"""psycopg2.extensions.TRANSACTION_STATUS_IDLE"""
_JSON: Final = ADAPTERS.types["json"].oid
_TYPES: Final = tuple(
    oid
    for name in ("bool", "bytea", "float8", "int2", "int4", "int8", "json", "text", "timestamptz", "uuid")
    for oid in (ADAPTERS.types[name].oid, ADAPTERS.types[name].array_oid)
)

_statements: Final[dict[bytes, TextStatement]] = {}


class Psycopg2Session(SyncCallerSession):
    """Over a psycopg2.extensions.connection."""

    def check_usable(self) -> None:
        check_open(bool(self.driver.closed))
        check_encoding(self.driver.encoding)
        if self.driver.async_:
            raise ConfigurationError("connection= is an asynchronous connection of psycopg2: pass a synchronous one")
        self.user = self.driver.info.user

    def run(self, steps: Sequence[Step]) -> Rows:
        driver = sys.modules["psycopg2"]
        try:
            return [self._fetch(statement, list(params)) for statement, params in steps]
        except driver.Error as error:
            if (primary := error.diag.message_primary) is not None:
                error.args = (primary,)  # its DETAIL may contain the arguments of jobs
            raise as_psycopg(error.pgcode, str(error)) from error

    @contextmanager
    def atomic(self) -> Generator[None, None, None]:
        if not self.driver.autocommit or self.driver.info.transaction_status != _IDLE:
            yield
            return
        self.run([(_BEGIN, ())])
        try:
            yield
        except BaseException:
            self.run([(_ROLLBACK, ())])
            raise
        self.run([(_COMMIT, ())])

    def _fetch(self, statement: Statement, params: list[bytes | None]) -> list[Any]:
        text = _statements.get(statement.sql)
        if text is None:
            text = _statements[statement.sql] = TextStatement(statement.sql.decode(), "%(p{})s".format, _escape)
        extensions = sys.modules["psycopg2.extensions"]
        with self.driver.cursor(cursor_factory=extensions.cursor) as cursor:
            # Values stay the text that the server sent, whatever the caller registered.
            extensions.register_type(extensions.new_type(_TYPES, "TEXT", _as_sent), cursor)
            shown = text.params(params)
            cursor.execute(text.sql, {f"p{number}": param for number, param in enumerate(shown, 1)})
            if not statement.has_rows:
                return []
            loads = [_loader(column.type_code) for column in cursor.description]
            return [
                tuple(None if value is None else load(value.encode()) for load, value in zip(loads, row, strict=True))
                for row in cursor.fetchall()
            ]


def _escape(sql: str) -> str:
    return sql.replace("%", "%%")


def _as_sent(value: str | None, cursor: Any) -> str | None:
    return value


def _loader(kind: int) -> Callable[[bytes], Any]:
    """Return what makes a value of the text of a type. JSON stays as it is."""
    return bytes if kind == _JSON else Transformer(AdapterContext()).get_loader(kind, Format.TEXT).load


_BEGIN, _COMMIT, _ROLLBACK = (Statement(name.lower(), name, has_rows=False) for name in ("BEGIN", "COMMIT", "ROLLBACK"))
