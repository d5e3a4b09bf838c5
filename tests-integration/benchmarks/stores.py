"""The storages of the contestants: throwaway servers and folders that exist for one run."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
from meters import Meter, PostgresMeter
from psycopg.sql import SQL, Identifier, Literal

from jobq_storage_postgres.testing import ThrowawayPostgres

POSTGRES = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "max_connections": "300",
    "autovacuum": "on",
}
"""Settings that differ from the server's defaults and affect the figures."""


class Store(ABC):
    """A kind of storage: it creates a target for each measurement, empty or as a copy of a prepared one."""

    kind: str

    def __enter__(self) -> Self:
        """Start the storage's server, if it has one."""
        return self

    def __exit__(self, *error: object) -> None:
        """Remove everything."""
        return

    @abstractmethod
    def create(self, copy_of: str | None = None) -> str:
        """Return the URL of a new target; `copy_of` is the URL of an unused target to copy."""

    def drop(self, url: str) -> None:
        """Remove a target."""
        return

    def calm(self, url: str) -> None:
        """Let the storage do its pending work now, so that the work does not disturb the measurement."""
        return

    def meter(self, url: str) -> Meter:
        """Return a meter of the storage's server."""
        return Meter()

    def facts(self) -> dict[str, Any]:
        """Return version and settings."""
        return {}


class PostgresStore(Store):
    """Databases of a throwaway server with fsync, or of a given server with its own settings."""

    kind = "postgresql"

    def __init__(self, source: str | None) -> None:
        self._server = ThrowawayPostgres(source, settings=POSTGRES)
        self._count = 0

    def __enter__(self) -> Self:
        """Start the server."""
        self._server.start()
        self._admin = psycopg.connect(self._server.dsn, autocommit=True)
        self._meter = PostgresMeter(self._admin)
        return self

    def __exit__(self, *error: object) -> None:
        """Stop the server."""
        self._admin.close()
        self._server.stop()

    def _run(self, text: str, *names: Identifier | Literal) -> list[tuple[Any, ...]]:
        cursor = self._admin.execute(SQL(text).format(*names))  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def create(self, copy_of: str | None = None) -> str:
        """Create a database. A copy is a copy of files, as fast as the disk."""
        self._count += 1
        name = f"bench_{self._count}"
        if copy_of is None:
            self._run("CREATE DATABASE {}", Identifier(name))
        else:
            template = Identifier(_database(copy_of))
            how = "STRATEGY file_copy" if self._server.version >= 150000 else ""
            self._run(f"CREATE DATABASE {{}} TEMPLATE {{}} {how}", Identifier(name), template)
        return _other_database(self._server.dsn, name)

    def drop(self, url: str) -> None:
        """Drop the database, with open connections."""
        self._run("DROP DATABASE {} WITH (FORCE)", Identifier(_database(url)))

    def calm(self, url: str) -> None:
        """Vacuum, analyse and flush."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")

    def meter(self, url: str) -> Meter:
        """Return a meter of one database. Processor time and log are those of the whole server."""
        self._meter.database = _database(url)
        self._meter.url = url
        return self._meter

    def facts(self) -> dict[str, Any]:
        """Ask the server."""
        settings = {name: self._run("SELECT current_setting({})", Literal(name))[0][0] for name in POSTGRES}
        return {"PostgreSQL": self._run("SHOW server_version")[0][0], "settings": settings}

    @contextmanager
    def pinned(self, url: str, how: str) -> Iterator[None]:
        """Hold a snapshot as a dump ('reads') or a forgotten transaction with a write ('writes') does."""
        with psycopg.connect(url) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT count(*) FROM pg_class")
            if how == "writes":
                connection.execute("SELECT pg_current_xact_id()")
            yield
            connection.rollback()


def _database(url: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])


def _other_database(url: str, name: str) -> str:
    """Return the URL with the name of another database."""
    before, _, options = url.partition("?")
    scheme, rest = before.split("://", 1)
    return f"{scheme}://{rest.split('/')[0]}/{name}" + (f"?{options}" if options else "")


class SqliteStore(Store):
    """Files in separate folders."""

    kind = "sqlite"

    def __enter__(self) -> Self:
        """Make a folder."""
        self._folder = Path(tempfile.mkdtemp(prefix="jobq-bench-"))
        self._count = 0
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def create(self, copy_of: str | None = None) -> str:
        """Create a folder, or copy one."""
        self._count += 1
        folder = self._folder / str(self._count)
        if copy_of is None:
            folder.mkdir()
        else:
            shutil.copytree(_file(copy_of).parent, folder)
        return f"sqlite:///{folder}/jobs.db"

    def drop(self, url: str) -> None:
        """Remove the folder."""
        shutil.rmtree(_file(url).parent, ignore_errors=True)

    def facts(self) -> dict[str, Any]:
        """Return the library's version, which is that of the contestants' Python."""
        return {"SQLite": sqlite3.sqlite_version, "settings": {"journal_mode": "wal", "synchronous": "FULL"}}


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


class MemoryStore(Store):
    """No server: client and worker are one process."""

    kind = "memory"

    def create(self, copy_of: str | None = None) -> str:
        """Return the URL."""
        return "memory://"
