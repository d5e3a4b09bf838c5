"""The connections to SQLite that applications have. Those of `CALLERS` keep the contract, each in all its tests."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final

import aiosqlite

from jobq_core.testing import callers
from jobq_core.testing.callers import (
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


class Sqlite3(SyncCaller):
    def connect(self) -> None:
        self.given = sqlite3.connect(self.url)


class Sqlite3Rows(Sqlite3):
    """With factories of its own for rows and text."""

    def connect(self) -> None:
        super().connect()
        self.given.row_factory = sqlite3.Row
        self.given.text_factory = bytes


class Aiosqlite(AsyncCaller):
    async def connect(self) -> None:
        self.given = await aiosqlite.connect(self.url)


class Django(callers.Django):
    def database(self) -> dict[str, Any]:
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": self.url}


def over_sqlite3(make: type[Caller]) -> Callable[[str], Caller]:
    return lambda path: make(f"sqlite:///{path}")


def over_aiosqlite(make: type[Caller]) -> Callable[[str], Caller]:
    return lambda path: make(f"sqlite+aiosqlite:///{path}")


CALLERS: Final[dict[str, Callable[[str], Caller]]] = {
    "sqlite3": Sqlite3,
    "sqlite3 with row and text factories": Sqlite3Rows,
    "aiosqlite": Aiosqlite,
    "SQLAlchemy Connection on sqlite3": over_sqlite3(SqlalchemyConnection),
    "SQLAlchemy Session on sqlite3": over_sqlite3(SqlalchemySession),
    "SQLAlchemy scoped_session on sqlite3": over_sqlite3(SqlalchemyScopedSession),
    "SQLAlchemy AsyncConnection on aiosqlite": over_aiosqlite(SqlalchemyAsyncConnection),
    "SQLAlchemy AsyncSession on aiosqlite": over_aiosqlite(SqlalchemyAsyncSession),
    "SQLAlchemy async_scoped_session on aiosqlite": over_aiosqlite(SqlalchemyAsyncScopedSession),
    "Django": Django,
}

ASYNC: Final = tuple(name for name in CALLERS if "aiosqlite" in name)
SYNC: Final = tuple(name for name in CALLERS if "aiosqlite" not in name)
