"""The maximum rate of SQLite and sqlite3 with durable commits and the fewest statements that keep finished jobs.

One transaction settles a batch and claims the next. It has no leases, lost workers, retries or queries.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import time
from collections.abc import Iterable
from typing import Any, ClassVar
from uuid import uuid4

from protocol import Adder, Contestant, main

TABLES = """
CREATE TABLE floor_job (
    n INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, created_at INTEGER NOT NULL, kind TEXT NOT NULL,
    arguments TEXT NOT NULL
);
CREATE TABLE floor_life (
    n INTEGER PRIMARY KEY, state INTEGER NOT NULL, started_at INTEGER, finished_at INTEGER, result TEXT
);
CREATE INDEX floor_ready ON floor_life (n) WHERE state = 0;
"""
CLAIM = """
SELECT life.n, job.kind, job.arguments FROM floor_life AS life CROSS JOIN floor_job AS job ON job.n = life.n
WHERE life.state = 0 ORDER BY life.n LIMIT ?
"""
START = "UPDATE floor_life SET state = 1, started_at = ? WHERE n = ?"
FINISH = "UPDATE floor_life SET state = 2, finished_at = ?, result = 'null' WHERE n = ? AND state = 1"
ADD_JOB = "INSERT INTO floor_job (id, created_at, kind, arguments) VALUES (?, ?, ?, ?) RETURNING n"
ADD_LIFE = "INSERT INTO floor_life (n, state) VALUES (?, 0)"
POLL = 0.001
"""Seconds between checks whether the file has changed; each reads shared memory."""


class FloorSqlite(Contestant):
    """Only sqlite3 and asyncio."""

    name = "floor"
    storages = ("sqlite",)
    settings: ClassVar[dict[str, list[dict[str, Any]]]] = {"work": [{"batch": 1000}]}

    def setup(self) -> None:
        """Make the tables."""
        _connect(self.url).executescript(TABLES)

    def fill(self, jobs: int, payload: int, delay: float, higher: bool) -> None:
        """Add in bulk. Jobs that are not due would not be in the index of due jobs."""
        if delay:
            return
        connection = _connect(self.url)
        for start in range(0, jobs, 1000):
            _add(connection, "nothing", (_arguments(n, payload) for n in range(start, min(start + 1000, jobs))))

    def work(self) -> None:
        """Serve until SIGTERM."""
        asyncio.run(self._work())

    async def _work(self) -> None:
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        connection = _connect(self.url)
        done: list[int] = []
        while not stopping.is_set():
            version = connection.execute("PRAGMA data_version").fetchone()
            rows = self._exchange(connection, done)
            await asyncio.gather(*[asyncio.create_task(self._run(kind, text)) for _, kind, text in rows])
            done = [row[0] for row in rows]
            if not rows and connection.execute("PRAGMA data_version").fetchone() == version:
                await asyncio.sleep(POLL)
        self._exchange(connection, done)

    def _exchange(self, connection: sqlite3.Connection, done: list[int]) -> list[tuple[int, str, str]]:
        if not done and connection.execute(CLAIM, (1,)).fetchone() is None:
            return []  # nothing to write
        now = time.time_ns() // 1000
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(FINISH, [(now, n) for n in done])
        rows: list[tuple[int, str, str]] = connection.execute(CLAIM, (self.options.get("batch", 1000),)).fetchall()
        connection.executemany(START, [(now, row[0]) for row in rows])
        connection.execute("COMMIT")
        return rows

    async def _run(self, kind: str, text: str) -> None:
        assert self.tally is not None
        arguments = json.loads(text)
        if kind == "stamp":
            self.tally.picked_up(arguments["sent"])
            return
        self.tally.ran()
        if self.sleep:
            await asyncio.sleep(self.sleep)

    def adder(self, payload: int) -> Adder:
        """Add with a connection."""
        return FloorAdder(_connect(self.url), payload)


def _connect(url: str) -> sqlite3.Connection:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _arguments(n: int, payload: int) -> str:
    return json.dumps({"n": n, "text": "x" * payload})


def _add(connection: sqlite3.Connection, kind: str, arguments: Iterable[str]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    now = time.time_ns() // 1000
    for text in arguments:
        (n,) = connection.execute(ADD_JOB, (uuid4().bytes, now, kind, text)).fetchone()
        connection.execute(ADD_LIFE, (n,))
    connection.execute("COMMIT")


class FloorAdder(Adder):
    """Adds with one connection; callers of one turn of the event loop share a transaction."""

    def __init__(self, connection: sqlite3.Connection, payload: int) -> None:
        self.connection = connection
        self.payload = payload
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def one(self, n: int) -> None:
        """Add a job, together with others of this turn of the event loop."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._flush)
        answer: asyncio.Future[None] = loop.create_future()
        self._waiting.append((n, answer))
        await answer

    def _flush(self) -> None:
        together, self._waiting = self._waiting, []
        _add(self.connection, "nothing", (_arguments(n, self.payload) for n, _ in together))
        for _, answer in together:
            answer.set_result(None)

    async def many(self, count: int) -> None:
        """Add a batch in one transaction."""
        _add(self.connection, "nothing", (_arguments(n, self.payload) for n in range(count)))

    async def stamp(self) -> None:
        """Add one."""
        _add(self.connection, "stamp", [json.dumps({"sent": time.monotonic()})])


if __name__ == "__main__":
    main(FloorSqlite)
