"""The maximum rate of PostgreSQL, psycopg and asyncio, with the fewest statements that keep finished jobs.

One statement settles a batch and claims the next; each job runs in a separate task. It has no leases, lost workers,
retries or queries.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar
from uuid import UUID

import psycopg
from protocol import Adder, Contestant, main
from uuid_utils.compat import uuid7

TABLES = """
CREATE SCHEMA floor;
CREATE SEQUENCE floor.lease;
CREATE TABLE floor.job (
    id uuid PRIMARY KEY, created_at timestamptz NOT NULL, kind text NOT NULL, arguments json NOT NULL
);
CREATE TABLE floor.ready (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id uuid NOT NULL)
    WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE floor.running (id uuid PRIMARY KEY, lease bigint NOT NULL, started_at timestamptz NOT NULL)
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE floor.outcome (
    id uuid PRIMARY KEY, lease bigint NOT NULL, started_at timestamptz NOT NULL, finished_at timestamptz NOT NULL,
    result json
);
"""

SETTINGS = (
    "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off"
)

EXCHANGE = """
WITH gone AS (
    DELETE FROM floor.running WHERE id = ANY(%s::uuid[]) RETURNING id, lease, started_at
), finished AS (
    INSERT INTO floor.outcome SELECT id, lease, started_at, clock_timestamp(), 'null' FROM gone
), picked AS MATERIALIZED (
    SELECT position, id FROM floor.ready WHERE position > %s ORDER BY position LIMIT %s FOR UPDATE SKIP LOCKED
), taken AS (
    DELETE FROM floor.ready WHERE position = ANY(ARRAY(SELECT position FROM picked))
), started AS (
    INSERT INTO floor.running SELECT id, nextval('floor.lease'), clock_timestamp() FROM picked RETURNING id
)
SELECT job.id, job.kind, job.arguments, (SELECT max(position) FROM picked)
FROM started CROSS JOIN LATERAL (SELECT * FROM floor.job WHERE job.id = started.id LIMIT 1) job
"""

ADD_ONE = """
WITH made AS (INSERT INTO floor.job VALUES (%s, clock_timestamp(), %s, %s) RETURNING id)
INSERT INTO floor.ready (id) SELECT id FROM made
"""

ADD_MANY = """
WITH made AS (
    INSERT INTO floor.job SELECT g.id, clock_timestamp(), %s, g.arguments
    FROM unnest(%s::uuid[], %s::text[]) AS t(id, text) CROSS JOIN LATERAL (SELECT t.id, t.text::json AS arguments) g
    RETURNING id
)
INSERT INTO floor.ready (id) SELECT id FROM made
"""

POLL = 0.02
"""Seconds between polls for jobs without a notification."""


class FloorPostgres(Contestant):
    """Only psycopg and asyncio."""

    name = "floor"
    packages = ("psycopg",)
    settings: ClassVar[dict[str, list[dict[str, Any]]]] = {"work": [{"batch": 200}]}

    def setup(self) -> None:
        """Make the tables."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(TABLES)

    def fill(self, jobs: int, payload: int, delay: float, higher: bool) -> None:
        """Add in bulk. Jobs that are not due would be in another table and affect nothing here."""
        if delay:
            return
        text = "x" * payload
        with psycopg.connect(self.url, autocommit=True) as connection:
            for start in range(0, jobs, 1000):
                connection.execute(ADD_MANY, _many("nothing", range(start, min(start + 1000, jobs)), text))

    def work(self) -> None:
        """Serve until SIGTERM."""
        asyncio.run(self._work())

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        rung, stopping = asyncio.Event(), asyncio.Event()

        def stop() -> None:
            stopping.set()
            rung.set()

        loop.add_signal_handler(signal.SIGTERM, stop)
        batch = self.options.get("batch", 200)
        done: list[UUID] = []
        mark = 0
        async with await connect(self.url) as connection, await connect(self.url) as listener:
            await listener.execute("LISTEN floor")
            loop.add_reader(listener.fileno(), hear, listener, rung)
            cursor = connection.cursor(binary=True)
            while not stopping.is_set():
                rung.clear()
                await cursor.execute(EXCHANGE, (done, mark, batch), prepare=True)
                rows = await cursor.fetchall()
                done = []
                if not rows:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(rung.wait(), POLL)
                    continue
                mark = rows[0][3]
                tasks = [asyncio.create_task(self._run(kind, arguments)) for _, kind, arguments, _ in rows]
                await asyncio.gather(*tasks)
                done = [row[0] for row in rows]
            loop.remove_reader(listener.fileno())
            await cursor.execute(EXCHANGE, (done, mark, 0))

    async def _run(self, kind: str, arguments: dict[str, Any]) -> None:
        assert self.tally is not None
        if kind == "stamp":
            self.tally.picked_up(arguments["sent"])
            return
        self.tally.ran()
        if self.sleep:
            await asyncio.sleep(self.sleep)

    def adder(self, payload: int) -> Adder:
        """Add with a connection."""
        return FloorAdder(self.url, "x" * payload)


async def connect(url: str) -> psycopg.AsyncConnection[Any]:
    """Connect, with plans that do not depend on statistics."""
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    await connection.execute(SETTINGS)
    return connection


def hear(listener: psycopg.AsyncConnection[Any], rung: asyncio.Event) -> None:
    """Receive the notifications so far."""
    listener.pgconn.consume_input()
    while listener.pgconn.notifies() is not None:
        rung.set()


def _many(kind: str, numbers: Sequence[int], text: str) -> tuple[Any, ...]:
    return kind, [uuid7() for _ in numbers], [json.dumps({"n": n, "text": text}) for n in numbers]


class FloorAdder(Adder):
    """Adds with one connection; concurrent callers share the next statement."""

    def __init__(self, url: str, text: str) -> None:
        self.url = url
        self.text = text
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._busy = False

    async def __aenter__(self) -> Adder:
        """Connect."""
        self._connection = await connect(self.url)
        self._cursor = self._connection.cursor(binary=True)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Disconnect."""
        await self._connection.close()

    async def one(self, n: int) -> None:
        """Add a job. Jobs that are added while a statement runs share the next statement."""
        if self._busy:
            answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((n, answer))
            await answer
            return
        self._busy = True
        await self._add([n])
        if self._waiting:
            self._flushing = asyncio.create_task(self._flush())
        else:
            self._busy = False

    async def _flush(self) -> None:
        while self._waiting:
            together, self._waiting = self._waiting, []
            await self._add([n for n, _ in together])
            for _, answer in together:
                answer.set_result(None)
        self._busy = False

    async def many(self, count: int) -> None:
        """Add a batch in one statement."""
        await self._add(range(count))

    async def _add(self, numbers: Sequence[int]) -> None:
        if len(numbers) == 1:
            arguments = json.dumps({"n": numbers[0], "text": self.text})
            await self._cursor.execute(ADD_ONE, (uuid7(), "nothing", arguments), prepare=True)
        else:
            await self._cursor.execute(ADD_MANY, _many("nothing", numbers, self.text), prepare=True)

    async def stamp(self) -> None:
        """Add a job and notify, in one round trip."""
        arguments = json.dumps({"sent": time.monotonic()})
        async with self._connection.pipeline():
            await self._cursor.execute(ADD_ONE, (uuid7(), "stamp", arguments), prepare=True)
            await self._cursor.execute("SELECT pg_notify('floor', '')", prepare=True)


if __name__ == "__main__":
    main(FloorPostgres)
