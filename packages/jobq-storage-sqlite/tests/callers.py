"""The connections that applications have: each driver, alone and under SQLAlchemy and Django, with one set of methods.

`begin`, `commit`, `rollback`, `nest` and `end_nested` are done as the application would. Those of sync drivers run in a
thread of their own, as do the operations of the storage, which calls back into it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import django
import sqlalchemy
from django.conf import settings as django_settings
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from jobq_core.caller_thread import run_from_thread

T = TypeVar("T")


class UndoError(Exception):
    """Ends a context so that it rolls back."""


class Caller:
    """A program with a connection. given: what it passes as `connection=`."""

    given: Any

    def __init__(self, path: Path) -> None:
        self.path = path

    async def ask(self, name: str, *arguments: Any) -> Any:
        """Call a method of the driver's."""
        raise NotImplementedError

    async def call(self, operation: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """Call an operation of a storage with the connection."""
        raise NotImplementedError

    async def close(self) -> None:
        await self.ask("disconnect")


class AsyncCaller(Caller):
    async def ask(self, name: str, *arguments: Any) -> Any:
        return await getattr(self, name)(*arguments)

    async def call(self, operation: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        return await operation(*arguments, connection=self.given)


class SyncCaller(Caller):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._thread = ThreadPoolExecutor(1)

    async def ask(self, name: str, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, getattr(self, name), *arguments)

    async def call(self, operation: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()

        return await loop.run_in_executor(
            self._thread, lambda: run_from_thread(operation(*arguments, connection=self.given), loop)
        )

    async def close(self) -> None:
        await super().close()
        self.end()

    def end(self) -> None:
        """End the thread."""
        self._thread.shutdown()


class Sqlite3(SyncCaller):
    def connect(self) -> None:
        self.given = sqlite3.connect(self.path)

    def begin(self) -> None: ...

    def commit(self) -> None:
        self.given.commit()

    def rollback(self) -> None:
        self.given.rollback()

    def nest(self) -> None:
        self.execute("SAVEPOINT nested")

    def end_nested(self, keep: bool) -> None:
        if not keep:
            self.execute("ROLLBACK TO nested")
        self.execute("RELEASE nested")

    def execute(self, statement: str) -> None:
        self.given.execute(statement)

    def disconnect(self) -> None:
        self.given.close()


class Sqlite3Rows(Sqlite3):
    """With factories of its own for rows and text."""

    def connect(self) -> None:
        super().connect()
        self.given.row_factory = sqlite3.Row
        self.given.text_factory = bytes


class Aiosqlite(AsyncCaller):
    async def connect(self) -> None:
        self.given = await aiosqlite.connect(self.path)

    async def begin(self) -> None: ...

    async def commit(self) -> None:
        await self.given.commit()

    async def rollback(self) -> None:
        await self.given.rollback()

    async def nest(self) -> None:
        await self.execute("SAVEPOINT nested")

    async def end_nested(self, keep: bool) -> None:
        if not keep:
            await self.execute("ROLLBACK TO nested")
        await self.execute("RELEASE nested")

    async def execute(self, statement: str) -> None:
        await self.given.execute(statement)

    async def disconnect(self) -> None:
        await self.given.close()


class SqlalchemyConnection(SyncCaller):
    def connect(self) -> None:
        self.engine = sqlalchemy.create_engine(f"sqlite:///{self.path}")
        self.given = self.make()

    def make(self) -> Any:
        return self.engine.connect()

    def begin(self) -> None: ...

    def commit(self) -> None:
        self.given.commit()

    def rollback(self) -> None:
        self.given.rollback()

    def nest(self) -> None:
        self.nested = self.given.begin_nested()

    def end_nested(self, keep: bool) -> None:
        if keep:
            self.nested.commit()
        else:
            self.nested.rollback()

    def execute(self, statement: str) -> None:
        self.given.execute(sqlalchemy.text(statement))

    def disconnect(self) -> None:
        self.given.close()
        self.engine.dispose()


class SqlalchemySession(SqlalchemyConnection):
    def make(self) -> Any:
        return Session(self.engine)


class SqlalchemyAsyncConnection(AsyncCaller):
    async def connect(self) -> None:
        self.engine = create_async_engine(f"sqlite+aiosqlite:///{self.path}")
        self.given = await self.make()

    async def make(self) -> Any:
        return await self.engine.connect()

    async def begin(self) -> None: ...

    async def commit(self) -> None:
        await self.given.commit()

    async def rollback(self) -> None:
        await self.given.rollback()

    async def nest(self) -> None:
        self.nested = await self.given.begin_nested()

    async def end_nested(self, keep: bool) -> None:
        await (self.nested.commit() if keep else self.nested.rollback())

    async def execute(self, statement: str) -> None:
        await self.given.execute(sqlalchemy.text(statement))

    async def disconnect(self) -> None:
        await self.given.close()
        await self.engine.dispose()


class SqlalchemyAsyncSession(SqlalchemyAsyncConnection):
    async def make(self) -> Any:
        return AsyncSession(self.engine)


class Django(SyncCaller):
    """Django's connection, in atomic blocks."""

    def connect(self) -> None:
        if not django_settings.configured:
            engine = "django.db.backends.sqlite3"
            django_settings.configure(DATABASES={"default": {"ENGINE": engine, "NAME": "none"}})
            django.setup()
        from django.db import connection, transaction

        connection.settings_dict["NAME"] = str(self.path)
        self.given, self.atomic = connection, transaction.atomic

    def begin(self) -> None:
        self.outer = self.atomic()
        self.outer.__enter__()

    def commit(self) -> None:
        self.outer.__exit__(None, None, None)

    def rollback(self) -> None:
        self.outer.__exit__(UndoError, UndoError(), None)

    def nest(self) -> None:
        self.nested = self.atomic()
        self.nested.__enter__()

    def end_nested(self, keep: bool) -> None:
        if keep:
            self.nested.__exit__(None, None, None)
        else:
            self.nested.__exit__(UndoError, UndoError(), None)

    def execute(self, statement: str) -> None:
        with self.given.cursor() as cursor:
            cursor.execute(statement)

    def disconnect(self) -> None:
        self.given.close()


CALLERS: list[type[Caller]] = [
    Sqlite3,
    Sqlite3Rows,
    Aiosqlite,
    SqlalchemyConnection,
    SqlalchemySession,
    SqlalchemyAsyncConnection,
    SqlalchemyAsyncSession,
    Django,
]
