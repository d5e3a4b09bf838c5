"""Plans stay what they are meant to be, whatever the statistics say: counted in pages touched, not in time."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from jobq_core.ids import new_id
from jobq_core.states import Ending
from jobq_core.storage import UNKNOWN_KIND, Claim, ClaimedJob, Line, Settlement
from jobq_core.testing import new_job, register_worker
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.address import Address
from jobq_storage_postgres.binary import Params, pack_int4, pack_int8, pack_moment, pack_text, texts, uuids
from jobq_storage_postgres.columns import pack_completed, pack_settlements
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.dsn import parse
from jobq_storage_postgres.protocol import Statement
from jobq_storage_postgres.schedules import ALWAYS, LATE
from jobq_storage_postgres.settle_and_claim import claim_step
from jobq_storage_postgres.sql import FOLDER

BATCH = 100


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, postgres_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    storage = PostgresQueueStorage(postgres_dsn, schema=postgres_schema)
    await storage.migrate()
    # Vacuuming in the background would undo what these tests build up.
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        for table in ("ready", "running", "waiting"):
            await connection.execute(
                sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = off)").format(sql.Identifier(postgres_schema, table))
            )
    async with storage:
        yield storage


@pytest_asyncio.fixture
async def explain(storage: PostgresQueueStorage, postgres_dsn: str) -> AsyncIterator[Explain]:
    connection = await Connection.connect(Address(parse(postgres_dsn, 30)), time_limit=30, prepared=None)
    yield Explain(storage, connection)
    connection.close()


class Explain:
    """Runs a statement as the storage does, tells what it touched, and rolls it back."""

    def __init__(self, storage: PostgresQueueStorage, connection: Connection) -> None:
        self.storage = storage
        self.connection = connection
        self.count = 0

    async def __call__(self, statement: str | Statement, params: Params) -> tuple[int, set[str]]:
        """Return the pages touched, and the names of relations that were read as a whole."""
        if isinstance(statement, str):
            statement = self.storage._engine.statements[statement]
        self.count += 1
        begin, rollback = Statement("begin", "BEGIN"), Statement("rollback", "ROLLBACK")
        # Prepared, since only a prepared statement has the plan that the storage's own have; and then it can be
        # explained only with its parameters as text.
        prepare = Statement(f"prepare_{self.count}", f"PREPARE explained AS {statement.sql.decode()}")
        asked = "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'explained'"
        types = Statement("types", asked)
        _, ((wanted,),) = await self.connection.fetch([(prepare, ()), (types, ())])
        written = ", ".join(f"quote_nullable(${n}::{kind}::text) || '::{kind}'" for n, kind in enumerate(wanted, 1))
        arguments: tuple[str, ...] = ()
        if wanted:
            ((arguments,),) = await self.connection.fetch(
                [(Statement(f"text_{self.count}", f"SELECT {written}"), params)]
            )
        execute = "EXECUTE explained" + (f"({', '.join(arguments)})" if arguments else "")
        explained = Statement(f"explain_{self.count}", f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {execute}")
        deallocate = Statement("deallocate", "DEALLOCATE explained")
        _, rows, _, _ = await self.connection.fetch([(begin, ()), (explained, ()), (rollback, ()), (deallocate, ())])
        plan = json.loads(rows[0][0])[0]["Plan"]
        whole: set[str] = set()
        walk(plan, whole)
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], whole

    async def claim(self, worker: UUID, *, marked: bool = True) -> tuple[int, set[str]]:
        """Explain a claim."""
        if not marked:
            self.storage._engine.watermarks.forget()
        return await self.claim_lines(worker, (Line("default"),))

    async def claim_lines(
        self, worker: UUID, asked: tuple[Line, ...], limit: int = BATCH, size: int | None = None
    ) -> tuple[int, set[str]]:
        """Explain a claim of these lines, without limits of queues and with them, and return the worse of the two."""
        engine, touched, whole = self.storage._engine, 0, set[str]()
        for limited in (asked, tuple(Line(line.queue, limit) for line in asked)):
            lines = await engine.watermarks.lines(limited)
            step = claim_step(
                engine.statements, worker, lines, pack_int4(limit), None if size is None else pack_int8(size)
            )
            pages, tables = await self(*step)
            touched, whole = max(touched, pages), whole | tables
        return touched, whole


def walk(plan: dict[str, Any], whole: set[str]) -> None:
    """Collect the tables that were scanned without a condition."""
    if plan["Node Type"] == "Seq Scan":
        whole.add(re.sub(r"_(default|\d{8})$", "", plan["Relation Name"]))
    for inner in plan.get("Plans", ()):
        walk(inner, whole)


async def add(storage: PostgresQueueStorage, count: int) -> None:
    for start in range(0, count, 1000):
        await storage.add([new_job() for _ in range(min(1000, count - start))])


async def add_others(storage: PostgresQueueStorage) -> None:
    """Add jobs that nobody claims here, so that the indexes are as high before as after."""
    for _ in range(20):
        await storage.add([new_job(queue="other") for _ in range(1000)])


async def drain(storage: PostgresQueueStorage, worker: UUID) -> None:
    done: list[Settlement] = []
    while True:
        exchange = await storage.settle_and_claim(worker, done, Claim.of("default", limit=500))
        done = [Settlement(job.id, job.lease, Ending.COMPLETE, b"1") for job in exchange.claimed]
        if not done:
            return


async def move_clock(storage: PostgresQueueStorage, dsn: str, seconds: int) -> None:
    body = sql.Literal(f"SELECT pg_catalog.clock_timestamp() + interval '{seconds} seconds'")
    query = sql.SQL("CREATE OR REPLACE FUNCTION {}() RETURNS timestamptz LANGUAGE sql AS {}")
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute(query.format(sql.Identifier(storage.schema, "clock"), body))


async def analyze(storage: PostgresQueueStorage, dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for table in ("job", "ready", "running", "waiting", "outcome", "unique_key", "attempt", "worker", "tally"):
            await connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(storage.schema, table)))


async def claim(storage: PostgresQueueStorage, worker: UUID) -> list[ClaimedJob]:
    return (await storage.settle_and_claim(worker, claim=Claim.of("default", limit=BATCH))).claimed


def completions(jobs: Sequence[ClaimedJob]) -> list[Settlement]:
    done = [Settlement(job.id, job.lease, Ending.COMPLETE, b"1") for job in jobs]
    return sorted(done, key=lambda s: s.id.bytes)


@pytest.mark.parametrize("analyzed", ["empty", "loaded", "bloated", "never"])
async def test_claims_and_settlements_touch_as_little_whatever_the_statistics_say(
    storage: PostgresQueueStorage, explain: Explain, postgres_dsn: str, analyzed: str
) -> None:
    worker = (await register_worker(storage)).id
    if analyzed == "empty":
        await analyze(storage, postgres_dsn)
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as pin:
        if analyzed == "bloated":
            await pin.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            await pin.execute("SELECT 1 FROM pg_class")
            await add(storage, 20_000)
            await drain(storage, worker)
            await analyze(storage, postgres_dsn)
        await add(storage, 10_000)
        if analyzed == "loaded":
            await analyze(storage, postgres_dsn)
        mine = await claim(storage, worker)
        if analyzed == "bloated":
            for _ in range(2):
                await storage._engine.watermarks.advance()

        touched, whole = await explain.claim(worker)
        assert not whole & {"ready", "job", "running"}
        assert touched < BATCH * 30

        touched, whole = await explain("complete", pack_completed(completions(mine)))
        assert not whole & {"running", "unique_key", "outcome"}
        assert touched < BATCH * 45

        failed = [(i, Settlement(s.id, s.lease, Ending.RETRY, when=60.0)) for i, s in enumerate(completions(mine))]
        touched, whole = await explain("settle", pack_settlements(failed))
        assert not whole & {"running", "unique_key", "waiting"}
        assert touched < BATCH * 45


async def test_a_pinned_snapshot_does_not_slow_claims(
    storage: PostgresQueueStorage, explain: Explain, postgres_dsn: str
) -> None:
    worker = (await register_worker(storage)).id
    await add(storage, BATCH * 2)
    await add_others(storage)
    clean, _ = await explain.claim(worker)
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as pin:
        await pin.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await pin.execute("SELECT 1 FROM pg_class")
        await add(storage, 30_000)
        await drain(storage, worker)
        await storage._engine.watermarks.close()
        await add(storage, BATCH * 2)
        for _ in range(2):
            await storage._engine.watermarks.advance()
        marked, _ = await explain.claim(worker)
        unmarked, _ = await explain.claim(worker, marked=False)
    assert marked < clean * 1.25
    # Every page of the line's index, and of the rows that are dead in it, once.
    assert unmarked > clean + 500, "the snapshot was not pinned: this shows nothing"


async def test_a_pinned_snapshot_does_not_slow_promotions(
    storage: PostgresQueueStorage, explain: Explain, postgres_dsn: str
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as pin:
        await pin.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await pin.execute("SELECT 1 FROM pg_class")
        for _ in range(10):
            await storage.add([new_job(run_at=3600.0) for _ in range(1000)])
        await move_clock(storage, postgres_dsn, 4000)
        assert (await storage.promote(10_000)).promoted == 10_000
        assert (await storage.promote()).promoted == 0
        await move_clock(storage, postgres_dsn, 8000)
        await storage.promote()
        await storage.add([new_job(run_at=10.0)])
        promotions = storage._engine.promotions
        assert promotions.promoted_at is not None
        since = pack_moment(promotions.promoted_at - LATE)
        bounded, _ = await explain("promote", (pack_int8(1000), since))
        unbounded, _ = await explain("promote", (pack_int8(1000), ALWAYS))
    assert bounded < 10
    assert unbounded > bounded + 100, "the snapshot was not pinned: this shows nothing"


async def test_future_jobs_of_higher_priority_cost_a_claim_nothing(
    storage: PostgresQueueStorage, explain: Explain
) -> None:
    worker = (await register_worker(storage)).id
    await add(storage, BATCH * 2)
    await add_others(storage)
    clean, _ = await explain.claim(worker)
    for _ in range(10):
        await storage.add([new_job(priority=9, run_at=3600.0) for _ in range(1000)])
    with_future, _ = await explain.claim(worker)
    assert with_future < clean * 1.25


async def test_queues_and_priorities_that_are_not_used_cost_a_claim_nothing(
    storage: PostgresQueueStorage, explain: Explain
) -> None:
    worker = (await register_worker(storage)).id
    await add(storage, BATCH * 2)
    for n in range(10):
        await storage.add([new_job(queue=f"other{n}", priority=p) for p in range(-100, 101)])
    clean, _ = await explain.claim(worker)
    many = tuple(Line(f"empty{n}") for n in range(1000))
    touched, whole = await explain.claim_lines(worker, (*many, Line("default")))
    assert touched < clean + 50
    assert not whole & {"ready", "job", "running"}


async def test_a_claim_with_a_limit_of_bytes_reads_no_arguments_that_it_does_not_take(
    storage: PostgresQueueStorage, explain: Explain
) -> None:
    worker = (await register_worker(storage)).id
    big = [new_job(arguments=b'"' + os.urandom(30_000).hex().encode() + b'"') for _ in range(100)]
    for start in range(0, 100, 20):
        await storage.add(big[start : start + 20])
    touched, _ = await explain.claim_lines(worker, (Line("default"),), 100, 130_000)
    assert touched < 1000
    exchange = await storage.settle_and_claim(worker, (), Claim.of("default", limit=100, max_bytes=130_000))
    assert (len(exchange.claimed), exchange.picked, exchange.more) == (2, 2, True)


async def test_suspended_jobs_of_a_kind_that_is_gone_cost_a_claim_nothing(
    storage: PostgresQueueStorage, explain: Explain
) -> None:
    worker = (await register_worker(storage)).id
    for _ in range(10):
        await storage.add([new_job(kind="gone") for _ in range(500)])
        taken = (await storage.settle_and_claim(worker, claim=Claim.of("default", limit=500))).claimed
        gone = [Settlement(job.id, job.lease, Ending.SUSPEND, reason=UNKNOWN_KIND) for job in taken]
        await storage.settle_and_claim(worker, gone)
    params = (worker.bytes, texts(["default"]), texts(["noop", "other"]), texts(["1", "1"]), pack_int4(BATCH))
    touched, whole = await explain("free_kinds", params)
    assert touched < 50
    assert not whole & {"waiting", "ready"}


async def test_maintenance_touches_little_of_many_jobs(storage: PostgresQueueStorage, explain: Explain) -> None:
    worker = (await register_worker(storage)).id
    for _ in range(10):
        await storage.add([new_job(queue="later", run_at=3600.0, deadline=7200.0) for _ in range(500)])
        await storage.add([new_job(queue="later", deadline=7200.0) for _ in range(500)])
    await add(storage, 5000)
    mine = await claim(storage, worker)
    texts_ = pack_text("type"), pack_text("message")
    duties: list[tuple[str, Params, int]] = [
        ("promote", (pack_int8(1000), ALWAYS), 50),
        ("next_due", (ALWAYS,), 50),
        ("expire", (pack_int8(1000), ALWAYS, *texts_), 50),
        ("next_deadline", (ALWAYS,), 50),
        ("sweep", (), 50),
        ("lost_workers", (), 500),
        ("rescue", (worker.bytes, uuids([job.id.bytes for job in mine]), *texts_), BATCH * 50),
    ]
    for name, params, limit in duties:
        touched, whole = await explain(name, params)
        assert touched < limit, (name, touched)
        assert not whole & {"waiting", "ready", "job", "outcome"}, name


async def test_finding_the_newest_touches_little_of_many(
    storage: PostgresQueueStorage, explain: Explain, postgres_dsn: str
) -> None:
    worker = (await register_worker(storage)).id
    await storage.add([new_job(run_id="r", tags=("t",), kind="rare") for _ in range(20)])
    mine = await claim(storage, worker)
    await storage.settle_and_claim(worker, [Settlement(job.id, job.lease, Ending.FAIL) for job in mine])
    await add(storage, 10_000)
    middle = new_id()
    await add(storage, 10_000)
    await drain(storage, worker)
    await storage.add([new_job(queue="big") for _ in range(10_000)])
    await analyze(storage, postgres_dsn)
    page = (None, pack_int8(20), pack_int8(20), None, None, None, None, None, pack_text("jobs"), None)
    older = (middle.bytes, *page[1:])
    none = (None, None, None)
    read = pack_int8(1000)
    default, rare, failed = pack_text("default"), texts(["rare"]), texts(["failed"])
    for name, params, found in (
        ("find", page, 20),
        ("find_run", (*page, pack_text("r"), *none, None, read), 20),
        ("find_tag", (*page, texts(["t"]), *none, read), 20),
        ("find_state", (*page, failed), 20),
        ("find_state", (*page, texts(["completed"])), 20),
        ("find_state", (*page, texts(["pending"])), 20),
        ("find_line", (*page, default, None, None, read), 20),
        ("find_line", (*page, default, None, failed, read), 20),
        ("find_line", (*older, default, None, texts(["completed"]), read), 20),
        ("find_line", (*page, default, rare, None, read), 20),
        ("find_line", (*page, None, rare, failed, read), 20),
        ("find_line", (*page, None, rare, texts(["completed", "failed", "aborted"]), read), 20),
        ("find_tag", (*page, texts(["t"]), default, rare, failed, read), 20),
        ("find_line", (*page, pack_text("big"), None, None, read), 20),
        ("find_line", (*page, pack_text("none"), None, None, read), 0),
    ):
        rows = await storage._engine.fetch(name, *params)
        assert [row[2] for row in rows] == [found] * max(found, 1), (name, params)
        touched, whole = await explain(name, params)
        assert touched < 600, (name, params, touched)
        assert not whole & {"job", "outcome", "ready", "waiting"}, name
    # A search for an error and a count read the few jobs that ended badly, and since a moment those added since.
    hour_ago = pack_moment(await storage.now() - timedelta(hours=1))
    error = (None, pack_int8(5000), pack_int8(20), None, None, None, pack_text("Error"), None, pack_text("jobs"), None)
    many = pack_int8(100_000)
    for name, params in (
        ("find_state", (*error, texts(["aborted", "disabled", "failed"]))),
        ("find_state", (*page, texts(["disabled"]))),
        ("count_tokens", (None, None, failed, many, many)),
        ("count_added", (None, None, failed, many, hour_ago, None, many)),
    ):
        touched, _ = await explain(name, params)
        assert touched < 600, (name, params, touched)


async def test_counting_does_not_read_finished_jobs(storage: PostgresQueueStorage, explain: Explain) -> None:
    worker = (await register_worker(storage)).id
    await add(storage, 20_000)
    await drain(storage, worker)
    await storage.prune()
    touched, _ = await explain("counts", ())
    assert (await storage.counts("default"))["default"]["completed"] == 20_000  # type: ignore[index]
    await add(storage, 20_000)
    await drain(storage, worker)
    await storage.prune()
    again, _ = await explain("counts", ())
    assert again <= touched + 800, "dead rows of tables that were drained, not outcomes"


async def test_counting_an_empty_queue_reads_no_others(storage: PostgresQueueStorage, explain: Explain) -> None:
    for _ in range(10):
        await storage.add([new_job(run_at=when) for when in (None, 60.0) for _ in range(1000)])
    touched, _ = await explain("counts_of", (pack_text("empty"),))
    assert touched < 50


async def test_the_clock_function_is_inlined(storage: PostgresQueueStorage, postgres_dsn: str) -> None:
    query = sql.SQL("EXPLAIN (VERBOSE) SELECT {}() FROM generate_series(1, 2)")
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        rows = await (await connection.execute(query.format(sql.Identifier(storage.schema, "clock")))).fetchall()
    assert "clock_timestamp()" in " ".join(row[0] for row in rows)


INDEXED = """
    SELECT t.relname, x.relname, am.amname, a.attname
    FROM pg_index i
    JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_am am ON am.oid = x.relam
    JOIN pg_attribute a ON a.attrelid = t.oid AND (
        a.attnum = ANY(i.indkey) OR EXISTS (
            SELECT FROM pg_depend d WHERE d.objid = x.oid AND d.refobjid = t.oid AND d.refobjsubid = a.attnum
        )
    )
    WHERE t.relnamespace = %s::regnamespace
"""
"""By table and index, what its columns, expressions and condition read."""
FIRED = """
    SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE connamespace = %s::regnamespace AND contype = 'f'
    UNION ALL
    SELECT t.relname, g.tgname FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid
    WHERE t.relnamespace = %s::regnamespace
"""
RARE = {
    ("line", "registered"),
    ("operation", "state"),
    *(("waiting", column) for column in ("state", "reason", "run_at", "queue")),
}
"""What only an operator changes, which is now and then, and the gates of gated jobs."""


def updated() -> set[tuple[str, str]]:
    """Return which columns of which tables the statements update in place."""
    found = set()
    for path in FOLDER.glob("*.sql"):
        text = re.sub("--.*", "", path.read_text(encoding="utf-8"))
        for match in re.finditer(r"UPDATE(?: jobq\.(\w+)(?: \w+)?)?\s+SET\s", text):
            table = match[1] or re.findall(r"INTO jobq\.(\w+)", text[: match.start()])[-1]
            (assigned,) = re.findall(r"\A(.*?)(?:\sWHERE\s|\sFROM\s+[\w(]|\sRETURNING\s|\Z)", text[match.end() :], re.S)
            found |= {(table, column) for column in re.findall(r"(?:\A|,)\s*(\w+) = ", assigned)}
    return found


async def test_no_index_has_to_follow_what_a_transition_updates_and_nothing_is_fired_by_rows(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as connection:
        rows = await (await connection.execute(INDEXED, (storage.schema,))).fetchall()
        fired = await (await connection.execute(FIRED, (storage.schema, storage.schema))).fetchall()
    assert fired == []
    indexes = [(re.sub(r"_(default|\d{8})$", "", table), *rest) for table, *rest in rows]
    assert {table for table, *_ in indexes} >= {
        "job",
        "waiting",
        "ready",
        "running",
        "outcome",
        "attempt",
        "unique_key",
    }
    assert {kind for _, _, kind, _ in indexes} == {"btree"}
    changed = updated()
    assert changed >= {("running", column) for column in ("request", "begun", "percent", "message", "details")}
    assert not {(table, column) for table, _, _, column in indexes} & changed - RARE
