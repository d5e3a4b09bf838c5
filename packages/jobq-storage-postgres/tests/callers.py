"""The connections to PostgreSQL that applications have. Those of `CALLERS` keep the contract, each in all its tests."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from typing import Any, Final, Protocol

import asyncpg
import psycopg
import psycopg2
import sqlalchemy
from django.db.utils import OperationalError as DjangoOperationalError

from jobq_core.testing import callers
from jobq_core.testing.callers import (
    KEEP,
    UNDO,
    AsyncCaller,
    Caller,
    SqlalchemyAsyncConnection,
    SqlalchemyAsyncScopedSession,
    SqlalchemyAsyncSession,
    SqlalchemyConnection,
    SqlalchemyScopedSession,
    SqlalchemySession,
    SyncCaller,
)


class Psycopg(SyncCaller):
    def connect(self) -> None:
        self.given = psycopg.connect(self.url, autocommit=self.autocommit)

    def nest(self) -> None:
        self.nested.append(self.given.transaction())
        self.nested[-1].__enter__()

    def end_nested(self, keep: bool) -> None:
        self.nested.pop().__exit__(*(KEEP if keep else UNDO))


class AsyncPsycopg(AsyncCaller):
    async def connect(self) -> None:
        self.given = await psycopg.AsyncConnection.connect(self.url)

    async def nest(self) -> None:
        self.nested.append(self.given.transaction())
        await self.nested[-1].__aenter__()

    async def end_nested(self, keep: bool) -> None:
        await self.nested.pop().__aexit__(*(KEEP if keep else UNDO))


class Psycopg2(SyncCaller):
    def connect(self) -> None:
        self.given = psycopg2.connect(self.url)
        self.given.autocommit = self.autocommit


class Asyncpg(AsyncCaller):
    async def connect(self) -> None:
        self.given = await asyncpg.connect(self.url)

    async def begin(self) -> None:
        await self.nest()

    async def commit(self) -> None:
        await self.end_nested(True)

    async def rollback(self) -> None:
        await self.end_nested(False)

    async def nest(self) -> None:
        self.nested.append(self.given.transaction())
        await self.nested[-1].start()

    async def end_nested(self, keep: bool) -> None:
        nested = self.nested.pop()
        await (nested.commit() if keep else nested.rollback())


class AsyncpgPool(Asyncpg):
    async def connect(self) -> None:
        self.pool = await asyncpg.create_pool(self.url, min_size=1, max_size=1)
        self.given = await self.pool.acquire()

    async def disconnect(self) -> None:
        await self.pool.release(self.given)
        await self.pool.close()


class Django(callers.Django):
    def database(self) -> dict[str, Any]:
        address = psycopg.conninfo.conninfo_to_dict(self.url)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": address["dbname"],
            "USER": address["user"],
            "HOST": address["host"],
            "PORT": address.get("port", ""),
        }


class DjangoOnPsycopg2(Django):
    """Django takes psycopg where it is installed, so that it is hidden from Django here."""

    def wrapper(self, settings: dict[str, Any]) -> Any:
        return _backend_on_psycopg2().DatabaseWrapper(settings, "default")


@cache
def _backend_on_psycopg2() -> Any:
    """Import Django's backend for PostgreSQL once more, without psycopg."""
    name = "django.db.backends.postgresql"
    hidden = {"psycopg": psycopg} | {each: sys.modules[each] for each in sys.modules if each.startswith(name)}
    for each in hidden:
        del sys.modules[each]
    sys.modules["psycopg"] = None  # type: ignore[assignment]
    try:
        backend = import_module(f"{name}.base")
    finally:
        for each in [each for each in sys.modules if each.startswith(name)]:
            del sys.modules[each]
        sys.modules.update(hidden)
    assert backend.Database is psycopg2
    return backend


class Make(Protocol):
    def __call__(self, url: str, *, autocommit: bool = False) -> Caller: ...


def over(driver: str, make: type[Caller]) -> Make:
    """Return how to make a caller that uses SQLAlchemy over a driver."""

    def made(url: str, *, autocommit: bool = False) -> Caller:
        return make(f"postgresql+{driver}://{url.partition('://')[2]}", autocommit=autocommit)

    return made


CALLERS: Final[dict[str, Make]] = {
    "psycopg": Psycopg,
    "psycopg async": AsyncPsycopg,
    "psycopg2": Psycopg2,
    "asyncpg": Asyncpg,
    "asyncpg pool": AsyncpgPool,
    "SQLAlchemy Connection on psycopg": over("psycopg", SqlalchemyConnection),
    "SQLAlchemy Connection on psycopg2": over("psycopg2", SqlalchemyConnection),
    "SQLAlchemy Session on psycopg": over("psycopg", SqlalchemySession),
    "SQLAlchemy Session on psycopg2": over("psycopg2", SqlalchemySession),
    "SQLAlchemy scoped_session on psycopg": over("psycopg", SqlalchemyScopedSession),
    "SQLAlchemy AsyncConnection on psycopg": over("psycopg", SqlalchemyAsyncConnection),
    "SQLAlchemy AsyncConnection on asyncpg": over("asyncpg", SqlalchemyAsyncConnection),
    "SQLAlchemy AsyncSession on psycopg": over("psycopg", SqlalchemyAsyncSession),
    "SQLAlchemy AsyncSession on asyncpg": over("asyncpg", SqlalchemyAsyncSession),
    "SQLAlchemy async_scoped_session on asyncpg": over("asyncpg", SqlalchemyAsyncScopedSession),
    "Django on psycopg": Django,
    "Django on psycopg2": DjangoOnPsycopg2,
}

DRIVERS: Final = ("psycopg", "psycopg async", "psycopg2", "asyncpg", "asyncpg pool")
DJANGO: Final = ("Django on psycopg", "Django on psycopg2")
ASYNC: Final = tuple(name for name in CALLERS if "async" in name.lower())
SYNC: Final = tuple(name for name in CALLERS if name not in ASYNC)

RETRYABLE: Final = (
    (callers.Django, DjangoOperationalError),
    ((SqlalchemyConnection, SqlalchemyAsyncConnection), sqlalchemy.exc.OperationalError),
    ((Psycopg, AsyncPsycopg), psycopg.errors.SerializationFailure),
    (Psycopg2, psycopg2.errors.SerializationFailure),
    (Asyncpg, asyncpg.SerializationError),
)


def retryable(caller: Caller) -> type[Exception]:
    """Return the error of a caller's driver that says that the transaction is to be repeated."""
    return next(error for kinds, error in RETRYABLE if isinstance(caller, kinds))
