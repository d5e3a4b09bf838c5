"""Sessions over connections of asyncpg, which has formats of its own for values."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final
from uuid import UUID

from msgspec import json

from jobq_storage_postgres.caller_sessions import AsyncCallerSession, as_psycopg, check_open
from jobq_storage_postgres.programs import Rows
from jobq_storage_postgres.protocol import Statement, Step
from jobq_storage_postgres.text_format import TextStatement

_JSON_COLUMNS: Final = frozenset({"arguments", "attempts", "details", "meta", "result"})

_statements: Final[dict[bytes, TextStatement]] = {}


class AsyncpgSession(AsyncCallerSession):
    """Over an asyncpg.Connection, or one that a pool of asyncpg's has lent out."""

    def check_usable(self) -> None:
        try:
            closed = self.driver.is_closed()
        except sys.modules["asyncpg"].InterfaceError:
            closed = True  # it was given back to its pool
        check_open(closed)

    async def run(self, steps: Sequence[Step]) -> Rows:
        asyncpg = sys.modules["asyncpg"]
        try:
            return [await self._fetch(statement, list(params)) for statement, params in steps]
        except asyncpg.PostgresError as error:
            error.detail = None  # it may contain the arguments of jobs
            raise as_psycopg(error.sqlstate, str(error)) from error
        except (asyncpg.InterfaceError, OSError) as error:
            raise as_psycopg(None, str(error)) from error

    def atomic(self) -> AbstractAsyncContextManager[Any]:
        return nullcontext() if self.driver.is_in_transaction() else self.driver.transaction()

    async def _fetch(self, statement: Statement, params: list[bytes | None]) -> list[Any]:
        text = _statements.get(statement.sql)
        if text is None:
            text = _statements[statement.sql] = TextStatement(statement.sql.decode(), "${}".format)
        if not statement.has_rows:
            await self.driver.execute(text.sql)
            return []
        records = await self.driver.fetch(text.sql, *text.params(params))
        return [tuple(_load(name, value) for name, value in record.items()) for record in records]


def _load(name: str, value: Any) -> Any:
    """Return a value as psycopg does. The caller may have registered a codec that decodes JSON."""
    if isinstance(value, list):
        return [_load(name, element) for element in value]
    if isinstance(value, UUID):
        return UUID(int=value.int)
    if name not in _JSON_COLUMNS or value is None or isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json.encode(value)
