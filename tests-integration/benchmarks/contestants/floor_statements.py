"""The floor with the statements that jobq sends, through psycopg's own cursors.

It omits everything around the statements: heartbeats, prefetching, low-water marks, results, errors. The difference to
jobq is the cost of jobq's Python; the difference to the other floor is the cost of jobq's promises.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

import floor_postgres
import psycopg
from protocol import Adder, main
from psycopg import AsyncRawCursor, RawCursor
from uuid_utils.compat import uuid7

from jobq_core import open_storage
from jobq_storage_postgres.sql import Statements

QUEUE = "bench"
REGISTER = """
INSERT INTO jobq.worker (id, started_at, beat_at, expires_at, lost_after, pid, concurrency, name, host, queues, kinds)
VALUES ($1, now(), now(), now() + interval '1 day', 30, $2, 0, 'floor', '', ARRAY[$3], ARRAY[]::text[])
"""
STATEMENTS = Statements("jobq")
ADD, ADD_ONE, CLAIM, COMPLETE = (STATEMENTS[name].sql.decode() for name in ("add", "add_one", "claim", "complete"))

LINES = ([QUEUE, QUEUE], [5, 0], [0, 0])
"""The queues of two lines, and their ranks and watermarks."""
ALL_KNOWN = (str(2**62), [])
"""No line is new since a transaction that is far away."""


class FloorStatements(floor_postgres.FloorPostgres):
    """psycopg, asyncio and jobq's SQL."""

    name = "floor, jobq's SQL"

    def setup(self) -> None:
        """Make jobq's tables."""
        asyncio.run(self._migrate())

    async def _migrate(self) -> None:
        await open_storage(self.url).migrate()

    def fill(self, jobs: int, payload: int, delay: float, higher: bool) -> None:
        """Add in bulk."""
        text = "x" * payload
        with psycopg.connect(self.url, autocommit=True) as connection, RawCursor(connection) as cursor:
            for start in range(0, jobs, 1000):
                count = min(1000, jobs - start)
                cursor.execute(ADD, _many(range(start, start + count), text, delay, 5 if higher else 0))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        rung, stopping = asyncio.Event(), asyncio.Event()

        def stop() -> None:
            stopping.set()
            rung.set()

        loop.add_signal_handler(signal.SIGTERM, stop)
        worker, batch = uuid4(), self.options.get("batch", 200)
        done: list[tuple[Any, int]] = []
        async with (
            await floor_postgres.connect(self.url) as connection,
            await floor_postgres.connect(self.url) as listener,
        ):
            await listener.execute("LISTEN floor")
            loop.add_reader(listener.fileno(), floor_postgres.hear, listener, rung)
            claiming, settling = AsyncRawCursor(connection), AsyncRawCursor(connection)
            await claiming.execute(REGISTER, (worker, os.getpid(), QUEUE))
            while not stopping.is_set():
                rung.clear()
                async with connection.pipeline():  # one round trip and one commit, as in jobq
                    if done:
                        done.sort()
                        ids, leases = zip(*done, strict=True)
                        results = ["null"] * len(done)
                        await settling.execute(COMPLETE, (list(ids), list(leases), results), prepare=True)
                    await claiming.execute(CLAIM, (worker, [QUEUE], *LINES, batch, None, *ALL_KNOWN), prepare=True)
                rows = [row for row in await claiming.fetchall() if row[1] is not None]
                await asyncio.gather(*[asyncio.create_task(self._run(row[4], row[5])) for row in rows])
                done = [(row[1], row[2]) for row in rows]
                if not rows:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(rung.wait(), floor_postgres.POLL)
            loop.remove_reader(listener.fileno())

    def adder(self, payload: int) -> Adder:
        """Add with a connection."""
        return StatementsAdder(self.url, "x" * payload)


def _many(numbers: Sequence[int], text: str, delay: float = 0, priority: int = 0) -> list[Any]:
    ids = [uuid7() for _ in numbers]
    arguments = [json.dumps({"n": n, "text": text}) for n in numbers]
    run_in = [delay] * len(ids) if delay else None
    columns = [*[None] * 5, run_in, *[None] * 11]
    return [ids, arguments, *columns, QUEUE, "nothing", priority, 10]


def _one(kind: str, arguments: dict[str, Any]) -> list[Any]:
    text = json.dumps(arguments)
    return [uuid7(), QUEUE, kind, text, 0, 10, *[None] * 6, len(text), None]


class StatementsAdder(floor_postgres.FloorAdder):
    """Adds with jobq's statements."""

    async def __aenter__(self) -> Adder:
        """Connect."""
        await super().__aenter__()
        self._raw = AsyncRawCursor(self._connection)
        return self

    async def _add(self, numbers: Sequence[int]) -> None:
        if len(numbers) == 1:
            await self._raw.execute(ADD_ONE, _one("nothing", {"n": numbers[0], "text": self.text}), prepare=True)
        else:
            await self._raw.execute(ADD, _many(numbers, self.text), prepare=True)

    async def stamp(self) -> None:
        """Add a job and notify, in one round trip."""
        async with self._connection.pipeline():
            await self._raw.execute(ADD_ONE, _one("stamp", {"sent": time.monotonic()}), prepare=True)
            await self._cursor.execute("SELECT pg_notify('floor', '')", prepare=True)


if __name__ == "__main__":
    main(FloorStatements)
