"""The storages under comparison: they share one stopped clock, and their answers are translated to one form.

A lease becomes the number of its run, counted over all claims. Everything else is compared as it is, times included,
because the clock moves only when a test sets it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import JobRecord, JobSummary, WorkerRecord
from jobq_core.storage import (
    ENDED_TOPIC,
    FINISHED_TOPIC,
    PROGRESS_TOPIC,
    REQUEST_TOPIC,
    WAITING_TOPIC,
    ClaimedJob,
    EndedJob,
    LostWorker,
    Page,
    ProgressReport,
    QueueStorage,
    Rescue,
    SettleAndClaimResult,
    Settlement,
    Subscription,
    blocked_topic,
    queue_topic,
)
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.testing.emptying import EMPTY, prepare_emptying
from jobq_storage_sqlite import SqliteQueueStorage


class StoppedClock:
    """A clock that moves only when it is set, in whole seconds since 1970 (a float holds them exactly)."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> float:
        return float(self.now)


class Party:
    """A storage, a subscription to all its topics, and the leases that it gave, by number of the run."""

    def __init__(self, name: str, storage: QueueStorage, subscription: Subscription) -> None:
        self.name = name
        self.storage = storage
        self.subscription = subscription
        self.leases: dict[int, int] = {}
        self.runs: dict[int, int] = {}

    async def ask(self, operation: str, *arguments: Any, **named: Any) -> Any:
        """Run an operation, and return its answer in the model's form."""
        arguments = tuple(self._to_leases(operation, argument) for argument in arguments)
        if isinstance(self.storage, PostgresQueueStorage):
            # It looks at all deadlines once in a while only, by a clock that does not follow the test's.
            self.storage._engine.expirations.full_due = 0.0
        answer = await getattr(self.storage, operation)(*arguments, **named)
        return self.translate(answer)

    def _to_leases(self, operation: str, argument: Any) -> Any:
        if isinstance(argument, list):
            if operation in ("mark_started", "check_leases"):
                return [(job_id, self._lease(run)) for job_id, run in argument]
            if operation == "recover_claims":
                return [self._lease(run) for run in argument]
            return [
                msgspec.structs.replace(each, lease=self._lease(each.lease))
                if isinstance(each, Settlement | ProgressReport)
                else each
                for each in argument
            ]
        return argument

    def _lease(self, run: int) -> int:
        return self.leases.get(run, 10**15 + run)

    def _note(self, claimed: ClaimedJob) -> Any:
        """Number a run that this storage has just claimed."""
        run = len(self.leases) + 1
        assert claimed.lease > max(self.runs, default=0), (
            f"{self.name} gave a lease that is not greater than all earlier leases"
        )
        self.leases[run], self.runs[claimed.lease] = claimed.lease, run
        return self.translate(claimed)

    def translate(self, answer: Any) -> Any:
        """Return an answer in the model's form."""
        if isinstance(answer, SettleAndClaimResult):
            # In the order of claiming; the leases of one claim are in that order too.
            claimed = [self._note(each) for each in answer.claimed]
            assert answer.busy == (), f"{self.name} is busy, and nobody else is at work"
            return answer.settled, claimed, answer.alive, answer.picked, answer.freed, answer.more
        if isinstance(answer, Rescue):
            return self.translate(answer.workers)
        if isinstance(answer, ClaimedJob):
            return msgspec.structs.astuple(msgspec.structs.replace(answer, lease=self.runs[answer.lease]))
        if isinstance(answer, JobRecord):
            return self._record(answer)
        if isinstance(answer, Page):
            return [self._summary(each) for each in answer.jobs], answer.cursor
        if isinstance(answer, list):
            if all(isinstance(each, WorkerRecord) for each in answer):
                started = [each.started_at for each in answer]
                assert started == sorted(started), f"{self.name} does not list the oldest worker first"
                return sorted(answer, key=lambda worker: (worker.started_at, worker.info.id))
            if all(isinstance(each, EndedJob) for each in answer):
                # Those of one moment are in any order.
                assert [each.at for each in answer] == sorted(each.at for each in answer), f"{self.name}: {answer}"
                return sorted(answer, key=lambda ended: (ended.at, ended.id, str(ended.state)))
            if all(isinstance(each, LostWorker) for each in answer):
                return sorted(answer, key=lambda lost: lost.worker)
            return [self.translate(each) for each in answer]
        return answer

    def _summary(self, found: JobSummary) -> JobSummary:
        return msgspec.structs.replace(found, lease=None if found.lease is None else self.runs[found.lease])

    def _record(self, record: JobRecord) -> JobRecord:
        return msgspec.structs.replace(
            record,
            lease=None if record.lease is None else self.runs[record.lease],
            attempts=tuple(
                msgspec.structs.replace(attempt, lease=self.runs[attempt.lease]) for attempt in record.attempts
            ),
        )


class ModelParty(Party):
    """Translates the model's own answers; its runs need no numbering."""

    def __init__(self) -> None:
        self.name = "the model"
        self.leases = self.runs = _Same()

    def _note(self, claimed: ClaimedJob) -> Any:
        return self.translate(claimed)


class _Same(dict[int, int]):
    def __missing__(self, key: int) -> int:
        return key


def all_topics(queues: Sequence[str]) -> list[str]:
    """Return all topics of these queues."""
    return [
        *map(queue_topic, queues),
        *map(blocked_topic, queues),
        ENDED_TOPIC,
        FINISHED_TOPIC,
        PROGRESS_TOPIC,
        REQUEST_TOPIC,
        WAITING_TOPIC,
    ]


class PostgresSchema:
    """A schema that is created once and emptied for each example, with a clock that tests set."""

    def __init__(self, dsn: str, schema: str) -> None:
        self.dsn = dsn
        self.schema = schema
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def make(self) -> None:
        """Create the tables and connect."""
        await PostgresQueueStorage(self.dsn, schema=self.schema).migrate()
        await self.connect()
        assert self._connection is not None
        await self._connection.execute(prepare_emptying(self.schema))

    async def connect(self) -> None:
        """Connect to tables that exist."""
        self._connection = await psycopg.AsyncConnection.connect(self.dsn, autocommit=True)

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.close()

    async def execute(self, *statements: str) -> None:
        """Run statements in one transaction; {} stands for the schema."""
        assert self._connection is not None
        async with self._connection.transaction():
            for statement in statements:
                await self._connection.execute(sql.SQL(statement).format(sql.Identifier(self.schema)))

    async def fetch(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query; {} stands for the schema."""
        assert self._connection is not None
        name = sql.Identifier(self.schema)
        composed = sql.SQL("").join([part for piece in query.split("{}") for part in (name, sql.SQL(piece))][1:])
        return await (await self._connection.execute(composed)).fetchall()

    async def empty(self) -> None:
        """Remove all rows; after `make`."""
        assert self._connection is not None
        await self._connection.execute(EMPTY)

    async def let_clock_run(self, ahead: float = 0.0) -> None:
        """Let its clock run as the server's does, some seconds ahead of it."""
        await self.execute(
            "CREATE OR REPLACE FUNCTION {}.clock() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE "
            f"AS 'SELECT pg_catalog.clock_timestamp() + interval ''{ahead:.6f} seconds'''"
        )

    async def set_clock(self, now: int) -> None:
        """Set the schema's clock, in seconds since 1970."""
        await self.execute(
            "CREATE OR REPLACE FUNCTION {}.clock() RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL SAFE "
            f"AS 'SELECT timestamptz ''1970-01-01 00:00:00+00'' + interval ''{now} seconds'''"
        )


@contextlib.asynccontextmanager
async def parties(
    clock: StoppedClock, schema: PostgresSchema, folder: Path, queues: Sequence[str]
) -> AsyncIterator[list[Party]]:
    """Open an empty storage of each kind. schema: after `make`. folder: an empty folder for SQLite's file."""
    await schema.empty()
    await schema.set_clock(clock.now)
    sqlite = SqliteQueueStorage(folder / "jobs.db", synchronous="NORMAL")
    sqlite._clock = sqlite._uptime = clock
    postgres = PostgresQueueStorage(schema.dsn, schema=schema.schema)
    postgres._engine.clock_steps.clock = clock  # its time passes; it is not set
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for name, storage in (("memory", MemoryQueueStorage(clock=clock)), ("sqlite", sqlite), ("postgres", postgres)):
            await stack.enter_async_context(storage)
            subscription = await stack.enter_async_context(storage.subscribe(all_topics(queues)))
            made.append(Party(name, storage, subscription))
        yield made


async def each(parties: Sequence[Party], ask: Callable[[Party], Any]) -> list[Any]:
    """Call `ask` for all parties concurrently. An error is returned as its type, message and notes."""
    return list(await asyncio.gather(*(_answer(ask, party) for party in parties)))


async def _answer(ask: Callable[[Party], Any], party: Party) -> Any:
    try:
        return await ask(party)
    except Exception as error:  # noqa: BLE001 -- the error is compared
        return said(error)


def said(error: Exception) -> tuple[str, str, list[str]]:
    """Return the type, message and notes of an error."""
    return type(error).__name__, str(error), list(getattr(error, "__notes__", []))


def difference(answer: Any, expected: Any, path: str = "") -> str:
    """Describe the first difference between two answers."""
    if isinstance(answer, list | tuple) and isinstance(expected, list | tuple) and len(answer) == len(expected):
        for index, (one, two) in enumerate(zip(answer, expected, strict=True)):
            if one != two:
                return difference(one, two, f"{path}[{index}]")
    if isinstance(answer, msgspec.Struct) and type(answer) is type(expected):
        for name in answer.__struct_fields__:
            if getattr(answer, name) != getattr(expected, name):
                return difference(getattr(answer, name), getattr(expected, name), f"{path}.{name}")
    return f"{path}: {answer!r} instead of {expected!r}"
