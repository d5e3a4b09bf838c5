"""A world on PostgreSQL; faults are injected into `execute` and into a caller's own connection."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, ClassVar
from unittest import mock

import psycopg
from psycopg.pq.abc import PGconn, PGresult

from jobq_storage_postgres import PostgresQueueStorage, connection
from jobq_storage_postgres.clock_steps import ClockSteps
from jobq_storage_postgres.coalescing import Coalescer
from jobq_storage_postgres.protocol import READ, WRITE, Statement, Step, execute

from .place import Fault, Kind, Place
from .scenario import Stage
from .world import CHUNK, START, World, make

FAULTY = b"faulty"
"""The application name of the connections into which faults are injected."""
SCHEMA = "jobq"
STANDING = (
    "CREATE OR REPLACE FUNCTION jobq.clock() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE "
    "AS 'SELECT timestamptz ''1970-01-01 00:00:00+00'' + interval ''{} seconds'''"
)


def failing(code: str) -> Statement:
    """Return a statement that fails with this SQLSTATE."""
    return Statement("failing", f"DO $$ BEGIN RAISE EXCEPTION 'injected' USING ERRCODE = '{code}'; END $$")


def cut(pgconn: PGconn) -> None:
    """Cut a connection, as a network failure does; the next read finds the end."""
    with socket.socket(fileno=os.dup(pgconn.socket)) as line:
        line.shutdown(socket.SHUT_RDWR)


class FaultyExecute:
    """Replaces `execute` while a fault is injected."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.held: list[PGconn] = []

    def thaw(self) -> None:
        """Let a frozen client go on, and find its connection lost."""
        self.fault.thawed = True
        for pgconn in self.held:
            cut(pgconn)
        self.held.clear()

    def __call__(
        self, pgconn: PGconn, steps: Sequence[Step], prepared: set[bytes] | None, rider: Step | None = None
    ) -> Generator[int, int, list[PGresult]]:
        """See `protocol.execute`."""
        all_steps = [*steps] if rider is None else [*steps, rider]
        faulty = pgconn.parameter_status(b"application_name") == FAULTY
        struck = self.fault.strikes([statement.name for statement, _ in all_steps]) if faulty else None
        kind = self.fault.kind
        if struck is None or kind is None:
            return (yield from execute(pgconn, steps, prepared, rider))
        if kind.freezes:
            yield from execute(pgconn, steps, prepared, rider)
            self.fault.frozen.set()
            self.held.append(pgconn)
            while not self.fault.thawed:
                yield READ
            pgconn.consume_input()  # raises: the connection was cut
        if kind.code is not None:
            all_steps[struck] = failing(kind.code), ()
            count = len(steps)
            return (yield from execute(pgconn, all_steps[:count], prepared, *all_steps[count:]))
        done = struck + kind.after
        if done > len(steps):
            # The rider was executed; the next read finds the cut connection.
            results = yield from execute(pgconn, steps, prepared, rider)
            cut(pgconn)
            return results
        if done == len(steps):
            # The answer is lost even if it is an error; no rider was sent, so none may be waited for.
            with suppress(psycopg.Error):
                yield from execute(pgconn, steps, prepared)
        else:
            yield from _begin_only(pgconn, steps[:done])
        cut(pgconn)
        while True:
            pgconn.consume_input()  # raises at the end of the stream
            yield READ


def _begin_only(pgconn: PGconn, steps: Sequence[Step]) -> Generator[int, int, None]:
    """Execute the first statements of a transaction, and stop there."""
    for statement, params in steps:
        pgconn.send_query_params(statement.sql, params, [0] * len(params), [1] * len(params), 1)
    pgconn.send_flush_request()
    while pgconn.flush():
        if (yield READ | WRITE) & READ:
            pgconn.consume_input()
    for _ in steps:
        result: PGresult | None = None
        while True:
            while pgconn.is_busy():
                yield READ
                pgconn.consume_input()
            result, last = pgconn.get_result(), result
            if result is None and last is not None:
                break


class Caller(psycopg.AsyncConnection[Any]):
    """A caller's connection, whose statements all go through `wait`."""

    fault: ClassVar[Fault]

    async def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """See `psycopg.AsyncConnection.wait`."""
        struck = self.fault.strikes([gen.__name__])
        kind = self.fault.kind
        if struck is None or kind is None:
            return await super().wait(gen, *args, **options)
        if kind.freezes:
            await super().wait(gen, *args, **options)
            self.fault.frozen.set()
            await asyncio.Event().wait()
        if kind.code is not None:
            gen.close()
            return await super().wait(self._fail(kind.code))
        if not kind.after:
            cut(self.pgconn)
            return await super().wait(gen, *args, **options)
        await super().wait(gen, *args, **options)
        cut(self.pgconn)
        return await super().wait(self._fail("08006"))

    def _fail(self, code: str) -> Any:
        yield from self._start_query()
        yield from self._exec_command(failing(code).sql)


class OnPostgres(Place):
    """A world in a schema whose clock stands still; the original is kept in another schema."""

    name = "PostgreSQL"
    kinds = (
        (Kind(name="connection lost before", breaks=True),),
        (Kind(name="connection lost after", after=True, breaks=True),),
        (Kind(name="deadlock", code="40P01"), Kind(name="not serializable", code="40001")),
        (Kind(name="disk full", code="53100"), Kind(name="cancelled", code="57014")),
    )
    ways = (True, False)

    def __init__(self, dsn: str, world: World, connection: psycopg.AsyncConnection[Any]) -> None:
        self.dsn = dsn
        self.world = world
        self.other = PostgresQueueStorage(dsn, schema=SCHEMA)
        self._connection = connection
        self._tables: list[str] = []
        self._now = START

    @staticmethod
    async def prepare(dsn: str) -> World:
        """Make the tables and the world, and keep a copy in another schema."""
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:

            async def set_clock(now: int) -> None:
                await connection.execute(STANDING.format(now).encode())

            storage = PostgresQueueStorage(dsn, schema=SCHEMA)
            await storage.migrate()
            async with storage:
                world = await make(storage, set_clock)
            await connection.execute("CREATE SCHEMA kept")
            for table in await _tables(connection):
                await connection.execute(f"CREATE TABLE kept.{table} AS SELECT * FROM jobq.{table}".encode())
        return world

    @classmethod
    @asynccontextmanager
    async def opened(cls, dsn: str, world: World) -> AsyncIterator[OnPostgres]:
        """Open the prepared world."""
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            place = cls(dsn, world, connection)
            place._tables = await _tables(connection)
            async with place.other:
                yield place

    async def restore(self) -> None:
        """See `Place.restore`."""
        # The server may still execute the last statement of a worker that stops. If that is a lease on maintenance, it
        # would never expire while the clock stands still, and no job would be promoted. The garbage collector closes a
        # connection that the worker opened and did not use.
        await self._none("NOT (state = 'idle' AND query = '')")
        statements = [
            f"DELETE FROM jobq.{table}; INSERT INTO jobq.{table} SELECT * FROM kept.{table}" for table in self._tables
        ]
        await self._connection.execute("; ".join([*statements, STANDING.format(START)]).encode())
        self._now = START

    async def set_clock(self, now: int) -> None:
        """See `Place.set_clock`."""
        self._now = now
        await self._connection.execute(STANDING.format(now).encode())

    @asynccontextmanager
    async def stage(self, fault: Fault, *, opened: bool, way: bool) -> AsyncIterator[Stage]:
        """See `Place.stage`. way: True prepares statements; False does not, as behind a pooler."""
        dsn = f"{self.dsn}&application_name={FAULTY.decode()}"
        # The machine's clock goes along with the database's: time passes, and nobody sets a clock.
        with mock.patch("jobq_storage_postgres.engine.ClockSteps", partial(ClockSteps, lambda: float(self._now))):
            storage = PostgresQueueStorage(dsn, schema=SCHEMA, prepared=way)

        def advance_watermarks() -> None:
            storage._engine.watermarks._advanced_at -= 1.0

        @asynccontextmanager
        async def caller(*, autocommit: bool = False) -> AsyncIterator[Caller]:
            Caller.fault = fault
            connection = await Caller.connect(dsn, autocommit=autocommit)
            try:
                yield connection
                if not autocommit:
                    await connection.commit()
            finally:
                await connection.close()

        async with AsyncExitStack() as stack:
            faulty = FaultyExecute(fault)
            stack.enter_context(mock.patch.object(connection, "execute", faulty))
            stack.enter_context(mock.patch("jobq_storage_postgres.adding.BULK", 3))
            for module in ("control", "changing"):
                stack.enter_context(mock.patch(f"jobq_storage_postgres.{module}.CHUNK", CHUNK))
            stack.push_async_callback(storage.close)
            stack.callback(faulty.thaw)
            if opened:
                await storage.open()
            stage = Stage(storage, self.other, self.world, caller, advance_watermarks)
            yield stage
            if stage.heartbeat is not None:
                stage.heartbeat.close()

    async def settled(self, stage: Stage) -> None:
        """See `Place.settled`."""
        storage = stage.storage
        assert isinstance(storage, PostgresQueueStorage)
        engine = storage._engine
        for task in (engine.notifier._sending, engine.watermarks._task):
            if task is not None:
                await task
        while engine.notifier._unanswered:
            for carrier in tuple(engine.notifier._unanswered):
                carrier.catch_up()
            await asyncio.sleep(0)
        engine.notifier._coalescer = Coalescer()  # the next notification is due at once

    async def more(self) -> dict[str, Any]:
        """See `Place.more`."""

        async def rows(query: str) -> list[Any]:
            return await (await self._connection.execute(query.encode())).fetchall()

        return {
            "leader": await rows("SELECT worker, expires_at FROM jobq.maintenance"),
            "retention": await rows("SELECT * FROM jobq.queue ORDER BY name"),
            "begun": await rows("SELECT id FROM jobq.running WHERE begun ORDER BY id"),
            "ended": await rows("SELECT id, state, failed IS NOT NULL FROM jobq.ended ORDER BY at, id"),
            "logs": await rows("SELECT job, lease, part, attempt, lines::text FROM jobq.job_log ORDER BY 1, 2, 3"),
            "keys": await rows("SELECT job, key FROM jobq.unique_key ORDER BY job"),
        }

    async def nothing_is_open(self) -> None:
        """See `Place.nothing_is_open`. The server may take a moment to notice a lost connection."""
        await self._none("xact_start IS NOT NULL")

    async def holds_transaction(self) -> bool:
        """Return whether a faulty connection holds a transaction open."""
        query = b"SELECT FROM pg_stat_activity WHERE application_name = %s AND state LIKE 'idle in transaction%%'"
        return bool(await (await self._connection.execute(query, (FAULTY.decode(),))).fetchall())

    async def _none(self, condition: str) -> None:
        """Wait until no faulty connection meets the condition."""
        until = time.monotonic() + 20
        query = f"SELECT state, query FROM pg_stat_activity WHERE application_name = %s AND {condition}".encode()
        while left := await (await self._connection.execute(query, (FAULTY.decode(),))).fetchall():
            assert time.monotonic() < until, f"still there: {left}"
            await asyncio.sleep(0.002)


async def _tables(connection: psycopg.AsyncConnection[Any]) -> list[str]:
    found = await connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'jobq'::regnamespace AND relkind IN ('r', 'p') "
        "AND NOT relispartition AND relname <> 'migration'"
    )
    return [name for (name,) in await found.fetchall()]
