"""The connections that applications have: each driver, alone and under SQLAlchemy and Django, with one set of methods.

`begin`, `commit`, `rollback` and `nest`, `end_nested` are done as the application would. Those of sync drivers run in a
thread of their own, as do the operations of the storage, which calls back into it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import asyncpg
import django
import psycopg
import psycopg2
import sqlalchemy
from django.conf import settings as django_settings
from django.db.utils import OperationalError as DjangoOperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from jobq_core.caller_thread import run_from_thread

T = TypeVar("T")


class UndoError(Exception):
    """Ends a context so that it rolls back."""


UNDO = (UndoError, UndoError(), None)
DONE = (None, None, None)


class Caller:
    """A program with a connection. given: what it passes as `connection=`. retryable: its serialization failure."""

    retryable: type[Exception]
    given: Any

    def __init__(self, dsn: str, *, autocommit: bool = False) -> None:
        self.dsn = dsn
        self.autocommit = autocommit
        self.address = psycopg.conninfo.conninfo_to_dict(dsn)
        self.url = dsn.partition("://")[2]

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
    def __init__(self, dsn: str, *, autocommit: bool = False) -> None:
        super().__init__(dsn, autocommit=autocommit)
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


class Psycopg(SyncCaller):
    retryable = psycopg.errors.SerializationFailure

    def connect(self) -> None:
        self.given = psycopg.connect(self.dsn, autocommit=self.autocommit)

    def begin(self) -> None: ...

    def commit(self) -> None:
        self.given.commit()

    def rollback(self) -> None:
        self.given.rollback()

    def nest(self) -> None:
        self.nested = self.given.transaction()
        self.nested.__enter__()

    def end_nested(self, keep: bool) -> None:
        self.nested.__exit__(*(DONE if keep else UNDO))

    def execute(self, sql: str) -> None:
        self.given.execute(sql)

    def disconnect(self) -> None:
        self.given.close()


class AsyncPsycopg(AsyncCaller):
    retryable = psycopg.errors.SerializationFailure

    async def connect(self) -> None:
        self.given = await psycopg.AsyncConnection.connect(self.dsn)

    async def begin(self) -> None: ...

    async def commit(self) -> None:
        await self.given.commit()

    async def rollback(self) -> None:
        await self.given.rollback()

    async def nest(self) -> None:
        self.nested = self.given.transaction()
        await self.nested.__aenter__()

    async def end_nested(self, keep: bool) -> None:
        await self.nested.__aexit__(*(DONE if keep else UNDO))

    async def execute(self, sql: str) -> None:
        await self.given.execute(sql)

    async def disconnect(self) -> None:
        await self.given.close()


class Psycopg2(Psycopg):
    retryable = psycopg2.errors.SerializationFailure

    def connect(self) -> None:
        self.given = psycopg2.connect(self.dsn)
        self.given.autocommit = self.autocommit

    def nest(self) -> None:
        self.execute("SAVEPOINT nested")

    def end_nested(self, keep: bool) -> None:
        self.execute("RELEASE SAVEPOINT nested" if keep else "ROLLBACK TO SAVEPOINT nested")

    def execute(self, sql: str) -> None:
        with self.given.cursor() as cursor:
            cursor.execute(sql)


class Asyncpg(AsyncCaller):
    retryable = asyncpg.SerializationError

    async def connect(self) -> None:
        self.given = await asyncpg.connect(self.dsn)

    async def begin(self) -> None:
        self.transaction = self.given.transaction()
        await self.transaction.start()

    async def commit(self) -> None:
        await self.transaction.commit()

    async def rollback(self) -> None:
        await self.transaction.rollback()

    async def nest(self) -> None:
        self.nested = self.given.transaction()
        await self.nested.start()

    async def end_nested(self, keep: bool) -> None:
        await (self.nested.commit() if keep else self.nested.rollback())

    async def execute(self, sql: str) -> None:
        await self.given.execute(sql)

    async def disconnect(self) -> None:
        await self.given.close()


class AsyncpgPool(Asyncpg):
    async def connect(self) -> None:
        self.pool = await asyncpg.create_pool(self.dsn, min_size=1, max_size=1)
        self.given = await self.pool.acquire()

    async def disconnect(self) -> None:
        await self.pool.release(self.given)
        await self.pool.close()


class SqlalchemyConnection(SyncCaller):
    retryable = sqlalchemy.exc.OperationalError
    driver = "psycopg"

    def connect(self) -> None:
        self.engine = sqlalchemy.create_engine(f"postgresql+{self.driver}://{self.url}")
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

    def execute(self, sql: str) -> None:
        self.given.execute(sqlalchemy.text(sql))

    def disconnect(self) -> None:
        self.given.close()
        self.engine.dispose()


class SqlalchemySession(SqlalchemyConnection):
    driver = "psycopg2"

    def make(self) -> Any:
        return Session(self.engine)


class SqlalchemyScopedSession(SqlalchemyConnection):
    """As Flask-SQLAlchemy's `db.session` is."""

    def make(self) -> Any:
        return scoped_session(sessionmaker(self.engine))


class SqlalchemyAsyncConnection(AsyncCaller):
    retryable = sqlalchemy.exc.OperationalError
    driver = "asyncpg"

    async def connect(self) -> None:
        self.engine = create_async_engine(f"postgresql+{self.driver}://{self.url}")
        if self.autocommit:
            self.engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
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

    async def execute(self, sql: str) -> None:
        await self.given.execute(sqlalchemy.text(sql))

    async def disconnect(self) -> None:
        await self.given.close()
        await self.engine.dispose()


class SqlalchemyAsyncSession(SqlalchemyAsyncConnection):
    driver = "psycopg"

    async def make(self) -> Any:
        return AsyncSession(self.engine)


class SqlalchemyAsyncSessionOnAsyncpg(SqlalchemyAsyncSession):
    driver = "asyncpg"


class Django(SyncCaller):
    """Django's connection, in atomic blocks."""

    retryable = DjangoOperationalError

    def connect(self) -> None:
        if not django_settings.configured:
            django_settings.configure(
                DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "none"}}
            )
            django.setup()
        from django.db import connection, transaction

        address = self.address
        connection.settings_dict |= {
            "NAME": address["dbname"],
            "USER": address["user"],
            "HOST": address["host"],
            "PORT": address.get("port", ""),
        }
        self.given, self.atomic = connection, transaction.atomic

    def begin(self) -> None:
        self.outer = self.atomic()
        self.outer.__enter__()

    def commit(self) -> None:
        self.outer.__exit__(*DONE)

    def rollback(self) -> None:
        self.outer.__exit__(*UNDO)

    def nest(self) -> None:
        self.nested = self.atomic()
        self.nested.__enter__()

    def end_nested(self, keep: bool) -> None:
        self.nested.__exit__(*(DONE if keep else UNDO))

    def execute(self, sql: str) -> None:
        with self.given.cursor() as cursor:
            cursor.execute(sql)

    def disconnect(self) -> None:
        self.given.close()


CALLERS: list[type[Caller]] = [
    Psycopg,
    AsyncPsycopg,
    Psycopg2,
    Asyncpg,
    AsyncpgPool,
    SqlalchemyConnection,
    SqlalchemySession,
    SqlalchemyAsyncConnection,
    SqlalchemyAsyncSession,
    Django,
]
MORE: list[type[Caller]] = [SqlalchemyScopedSession, SqlalchemyAsyncSessionOnAsyncpg]
"""Others that differ from those only in how they are found."""
