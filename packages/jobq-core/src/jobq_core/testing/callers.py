"""Applications that pass a connection as `connection=`: for the tests of storages, one set of methods for all drivers.

`begin`, `commit`, `rollback`, `nest` and `end_nested` are done as the application would. Those of drivers that block
run in a thread of their own, as do the operations of the storage, which calls back into it. SQLAlchemy and Django need
to be installed only for their classes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from jobq_core.caller_thread import run_from_thread

T = TypeVar("T")


class UndoError(Exception):
    """Ends a context so that it rolls back."""


KEEP = (None, None, None)
UNDO = (UndoError, UndoError(), None)
"""What `__exit__` of a context takes, by whether its transaction is to be kept."""


class Caller:
    """An application with a connection to a database. given: what it passes as `connection=`, once it is connected.

    autocommit: whether each statement outside of `begin` is a transaction, where the driver can do that (default:
    False).
    """

    given: Any

    def __init__(self, url: str, *, autocommit: bool = False) -> None:
        self.url = url
        self.autocommit = autocommit
        self.nested: list[Any] = []
        """The open savepoints, the innermost last."""

    async def ask(self, name: str, *arguments: Any) -> None:
        """Do something with the connection, such as `connect`, `begin` or `execute`."""
        raise NotImplementedError

    async def call(self, operation: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """Call an operation of a storage with the connection."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the connection."""
        await self.ask("disconnect")


class SyncCaller(Caller):
    """An application whose driver blocks, and has the methods of Python's database API."""

    def __init__(self, url: str, *, autocommit: bool = False) -> None:
        super().__init__(url, autocommit=autocommit)
        self._thread = ThreadPoolExecutor(1)

    async def ask(self, name: str, *arguments: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, getattr(self, name), *arguments)

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

    def begin(self) -> None:
        """Begin a transaction: the first statement does."""

    def commit(self) -> None:
        """Commit the transaction."""
        self.given.commit()

    def rollback(self) -> None:
        """Roll back the transaction."""
        self.given.rollback()

    def nest(self) -> None:
        """Set a savepoint."""
        self.nested.append(f"nested_{len(self.nested)}")
        self.execute(f"SAVEPOINT {self.nested[-1]}")

    def end_nested(self, keep: bool) -> None:
        """Release the last savepoint, or roll back to it."""
        name = self.nested.pop()
        if not keep:
            self.execute(f"ROLLBACK TO SAVEPOINT {name}")
        self.execute(f"RELEASE SAVEPOINT {name}")

    def execute(self, statement: str) -> None:
        """Execute a statement."""
        cursor = self.given.cursor()
        cursor.execute(statement)
        cursor.close()

    def disconnect(self) -> None:
        """Close the connection."""
        self.given.close()


class AsyncCaller(Caller):
    """An application whose driver is for event loops; see SyncCaller."""

    async def ask(self, name: str, *arguments: Any) -> None:
        await getattr(self, name)(*arguments)

    async def call(self, operation: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        return await operation(*arguments, connection=self.given)

    async def begin(self) -> None:
        """Begin a transaction: the first statement does."""

    async def commit(self) -> None:
        """Commit the transaction."""
        await self.given.commit()

    async def rollback(self) -> None:
        """Roll back the transaction."""
        await self.given.rollback()

    async def nest(self) -> None:
        """Set a savepoint."""
        self.nested.append(f"nested_{len(self.nested)}")
        await self.execute(f"SAVEPOINT {self.nested[-1]}")

    async def end_nested(self, keep: bool) -> None:
        """Release the last savepoint, or roll back to it."""
        name = self.nested.pop()
        if not keep:
            await self.execute(f"ROLLBACK TO SAVEPOINT {name}")
        await self.execute(f"RELEASE SAVEPOINT {name}")

    async def execute(self, statement: str) -> None:
        """Execute a statement."""
        await self.given.execute(statement)

    async def disconnect(self) -> None:
        """Close the connection."""
        await self.given.close()


class SqlalchemyConnection(SyncCaller):
    """SQLAlchemy's Connection. url: of SQLAlchemy, which names the driver."""

    def connect(self) -> None:
        """Make the engine and what it is used with."""
        import sqlalchemy

        self.engine = sqlalchemy.create_engine(self.url)
        self.given = self.make()

    def make(self) -> Any:
        """Return what is passed as `connection=`."""
        return self.engine.connect()

    def nest(self) -> None:
        self.nested.append(self.given.begin_nested())

    def end_nested(self, keep: bool) -> None:
        nested = self.nested.pop()
        nested.commit() if keep else nested.rollback()

    def execute(self, statement: str) -> None:
        import sqlalchemy

        self.given.execute(sqlalchemy.text(statement))

    def disconnect(self) -> None:
        self.given.close()
        self.engine.dispose()


class SqlalchemySession(SqlalchemyConnection):
    """SQLAlchemy's Session."""

    def make(self) -> Any:
        from sqlalchemy.orm import Session

        return Session(self.engine)


class SqlalchemyScopedSession(SqlalchemyConnection):
    """SQLAlchemy's scoped_session, which Flask-SQLAlchemy's `db.session` is."""

    def make(self) -> Any:
        from sqlalchemy.orm import scoped_session, sessionmaker

        return scoped_session(sessionmaker(self.engine))


class SqlalchemyAsyncConnection(AsyncCaller):
    """SQLAlchemy's AsyncConnection. url: of SQLAlchemy, which names the driver."""

    async def connect(self) -> None:
        """Make the engine and what it is used with."""
        from sqlalchemy.ext.asyncio import create_async_engine

        self.engine = create_async_engine(self.url)
        if self.autocommit:
            self.engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self.given = await self.make()

    async def make(self) -> Any:
        """Return what is passed as `connection=`."""
        return await self.engine.connect()

    async def nest(self) -> None:
        self.nested.append(await self.given.begin_nested())

    async def end_nested(self, keep: bool) -> None:
        nested = self.nested.pop()
        await (nested.commit() if keep else nested.rollback())

    async def execute(self, statement: str) -> None:
        import sqlalchemy

        await self.given.execute(sqlalchemy.text(statement))

    async def disconnect(self) -> None:
        await self.given.close()
        await self.engine.dispose()


class SqlalchemyAsyncSession(SqlalchemyAsyncConnection):
    """SQLAlchemy's AsyncSession."""

    async def make(self) -> Any:
        from sqlalchemy.ext.asyncio import AsyncSession

        return AsyncSession(self.engine)


class SqlalchemyAsyncScopedSession(SqlalchemyAsyncConnection):
    """SQLAlchemy's async_scoped_session."""

    async def make(self) -> Any:
        from sqlalchemy.ext.asyncio import async_scoped_session, async_sessionmaker

        return async_scoped_session(async_sessionmaker(self.engine), scopefunc=lambda: None)


class Django(SyncCaller):
    """Django's connection, in atomic blocks."""

    def database(self) -> dict[str, Any]:
        """Return what DATABASES has for it."""
        raise NotImplementedError

    def connect(self) -> None:
        """Give the present thread the database as its default."""
        import django
        from django.conf import settings

        if not settings.configured:
            settings.configure(DATABASES={"default": self.database()})
            django.setup()
        from django.db import connection, connections

        connections["default"] = self.wrapper(connections["default"].settings_dict | self.database())
        self.given = connection

    def wrapper(self, settings: dict[str, Any]) -> Any:
        """Return Django's object for a database. settings: those that DATABASES has for it, and defaults."""
        from django.db.utils import load_backend

        return load_backend(settings["ENGINE"]).DatabaseWrapper(settings, "default")

    def begin(self) -> None:
        self.nest()

    def commit(self) -> None:
        self.end_nested(True)

    def rollback(self) -> None:
        self.end_nested(False)

    def nest(self) -> None:
        from django.db import transaction

        self.nested.append(transaction.atomic())
        self.nested[-1].__enter__()

    def end_nested(self, keep: bool) -> None:
        self.nested.pop().__exit__(*(KEEP if keep else UNDO))
