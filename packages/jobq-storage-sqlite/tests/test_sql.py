"""What the hot statements cost: by SQLite's plan, and by the steps of its machine, however much else is in the file."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobq_core.ids import new_id
from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, JobFilter, Settlement
from jobq_core.testing import new_job, register_worker
from jobq_storage_sqlite import SqliteQueueStorage, adding, maintenance, pruning, rescuing, settle_and_claim
from jobq_storage_sqlite.migrations import apply
from jobq_storage_sqlite.sql import sql, statements
from jobq_storage_sqlite.sql_functions import add_functions
from jobq_storage_sqlite.transaction import Transaction

ALLOWED = {
    # They read an index that holds nothing but what is asked for, or as many rows as there are queues and lines.
    **dict.fromkeys(
        (
            "depths",
            "count_unfinished",
            "count_states",
            "count_jobs_in_states",
            "count_kinds_in_states",
            "find_in_states",
            "search_in_states",
        ),
        r"SCAN (jobq_life USING INDEX jobq_life_running|life USING INDEX jobq_life_running|line|ready|waiting(_queue)?"
        r"|of|\d+ CONSTANT ROWS?|CONSTANT ROW|candidate|ended|\(subquery-\d+\)|\(join-\d+\))",
    ),
    "find_queue": r"SCAN jobq_life USING INDEX jobq_life_running",
    # They count up to a limit.
    **dict.fromkeys(
        ("jobs_ahead", "count_overdue", "count_jobs", "count_jobs_in_run", "count_jobs_in_spans", "jobs_in_spans"),
        r"SCAN \(subquery-\d+\)",
    ),
    "find_ready_queues": r"SCAN (found|CONSTANT ROW)",
    "find_ended": r"SCAN jobq_ended",
    "find_next_deadline": r"SEARCH jobq_life USING COVERING INDEX jobq_life_deadline",
    "delete_spans": r"SCAN CONSTANT ROW",
    "find_next_due": r"SCAN jobq_life USING COVERING INDEX jobq_life_due",
    "find_prunable": r"SCAN (found|ending|\d+ CONSTANT ROWS?|CONSTANT ROW)",
    # Tables with as many rows as there are workers, queues, operations, or just one.
    "newest_operations": r"SCAN jobq_operation",
    "delete_operations": r"SCAN jobq_operation",
    "delete_requests": r"SCAN jobq_worker_request USING COVERING INDEX jobq_worker_request_worker",
    "last_sample": r"SCAN sample",
    "applied_migrations": r"SCAN jobq_migration",
    "schema_objects": r"SCAN sqlite_master",
    "workers": r"SCAN jobq_worker",
    "find_lost_workers": r"SCAN (jobq_worker|holder|CONSTANT ROW)",
    "find_next_live_loss": r"SCAN jobq_worker",
    "paused": r"SCAN jobq_queue",
    "queues": r"SCAN jobq_queue",
    "resign": r"SCAN jobq_leader",
    # The rows of a statement that is checked by itself.
    **dict.fromkeys(
        ("statistics_together", "statistics_together_by_600", "statistics_together_by_3600"), r"SCAN \(subquery-\d+\)"
    ),
    # A common table expression over the ids that were asked for.
    **dict.fromkeys(
        ("find_ids", "get", "get_status", "check_leases", "find_operations", "get_requests"),
        r"SCAN (wanted|CONSTANT ROW)",
    ),
}

FAR = 4 * 10**15
"""A moment in 2096."""

FRAGMENTS = {name for text in statements().values() for name in re.findall(r"\{(\w+)\}", text)}
"""Blocks that others include."""

NAMES = sorted(statements().keys() - FRAGMENTS)


@pytest.fixture(scope="module")
def empty() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        _make_tables(connection)
        yield connection


@pytest.fixture(scope="module")
def analyzed() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        _make_tables(connection)
        fill(connection, finished=2000, scheduled=500, pending=3)
        connection.execute("ANALYZE")
        yield connection


def _make_tables(connection: sqlite3.Connection) -> None:
    add_functions(connection)
    apply(connection, "jobs.db", "all")


def plan(connection: sqlite3.Connection, name: str) -> list[str]:
    statement = sql(name)
    values: Any = dict.fromkeys(re.findall(r":(\w+)", statement)) or [None] * statement.count("?")
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)
    return [detail for *_, detail in rows]


def scans(connection: sqlite3.Connection, name: str) -> list[str]:
    return [
        detail
        for detail in plan(connection, name)
        if detail.startswith("SCAN")
        and "VIRTUAL TABLE" not in detail  # json_each over what was asked for
        and not re.fullmatch(ALLOWED.get(name, "none"), detail)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_no_statement_scans_a_table(empty: sqlite3.Connection, name: str) -> None:
    assert scans(empty, name) == []


@pytest.mark.parametrize("name", NAMES)
def test_no_statement_scans_a_table_after_analyze_either(analyzed: sqlite3.Connection, name: str) -> None:
    assert scans(analyzed, name) == []


def test_claiming_sorts_nothing(empty: sqlite3.Connection) -> None:
    assert plan(empty, "claim_heads") == [
        "SEARCH life USING INDEX jobq_life_ready (queue=?)",
        "SEARCH job USING INTEGER PRIMARY KEY (rowid=?) LEFT-JOIN",
    ]
    assert [detail for detail in plan(empty, "find_due") if "TEMP B-TREE" in detail] == []


def fill(connection: sqlite3.Connection, *, finished: int, scheduled: int, pending: int) -> None:
    """Put jobs of higher priority than usual into a file."""
    rows = [("completed", number) for number in range(finished)]
    rows += [("scheduled", number) for number in range(scheduled)] + [("pending", number) for number in range(pending)]
    connection.execute("BEGIN")
    (first,) = connection.execute("SELECT value FROM jobq_sequence").fetchone()
    connection.executemany(
        "INSERT INTO jobq_job (n, id, kind, priority, arguments, created_at, max_attempts)"
        " VALUES (?, ?, 'noop', 9, x'7b7d', 0, 10)",
        [(n, new_id().bytes) for n in range(first + 1, first + 1 + len(rows))],
    )
    connection.executemany(
        "INSERT INTO jobq_life (n, queue, urgency, position, state, since, run_at, reason, finished_at, settled, lease)"
        " VALUES (?, 'default', -9, ?, ?, 0, ?, ?, ?, ?, ?)",
        [
            (
                n,
                n,
                state,
                *((FAR + number, "delayed") if state == "scheduled" else (None, None)),
                *((1, state, number) if state == "completed" else (None, None, None)),
            )
            for n, (state, number) in enumerate(rows, first + 1)
        ],
    )
    connection.execute("UPDATE jobq_sequence SET value = value + ?", (len(rows),))
    connection.execute("COMMIT")


async def test_what_a_page_reads_costs_the_same_however_many_jobs_finished(path: Path) -> None:
    costs = []
    for finished in (0, 10_000):
        async with SqliteQueueStorage(path.with_name(f"{finished}.db")) as storage:
            await storage.depths()  # connects
            with closing(sqlite3.connect(storage.path, isolation_level=None)) as connection:
                fill(connection, finished=finished, scheduled=30, pending=30)
            [job, *_] = (await storage.find(JobFilter(states={JobState.PENDING}))).jobs
            costs.append(
                {
                    "depths": await _steps(storage, storage.depths),
                    "counts": await _steps(storage, storage.counts),
                    "jobs_ahead": await _steps(storage, lambda storage=storage, job=job: storage.jobs_ahead(job.id)),
                    "statistics": await _steps(storage, lambda storage=storage: storage.statistics(step=3600)),
                    "depth_history": await _steps(storage, lambda storage=storage: storage.depth_history(step=3600)),
                    "count": await _steps(
                        storage, lambda storage=storage: storage.count(JobFilter(queue="default", kinds=("noop",)))
                    ),
                }
            )
    empty, full = costs
    assert full == {name: pytest.approx(spent, rel=0.05, abs=60) for name, spent in empty.items()}


async def _steps(storage: SqliteQueueStorage, read: Callable[[], Awaitable[object]]) -> int:
    """Return the steps of SQLite's machine that reading takes."""
    assert storage._opened is not None
    connection = storage._opened.reader._connection
    assert connection is not None
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    await connection.set_progress_handler(step, 1)
    await read()
    await connection.set_progress_handler(None, 1)
    return steps


async def test_a_round_of_work_costs_the_same_however_much_else_there_is(path: Path) -> None:
    """Counts the steps of SQLite's machine: no clock, no noise."""
    costs = []
    for more in (
        {"finished": 0, "scheduled": 0, "pending": 0},
        {"finished": 60_000, "scheduled": 30_000, "pending": 30_000},
    ):
        file = path.with_name(f"{more['finished']}.db")
        async with SqliteQueueStorage(file) as storage:
            worker = await register_worker(storage)
            with closing(sqlite3.connect(file, isolation_level=None)) as connection:
                fill(connection, **more)
            jobs = [new_job(priority=9) for _ in range(40)]

            def work(transaction: Transaction, worker: Any = worker, jobs: Any = jobs) -> dict[str, int]:
                connection: Any = transaction.connection
                steps = 0

                def step() -> None:
                    nonlocal steps
                    steps += 1

                connection.set_progress_handler(step, 1)
                spent = {}
                adding.add(transaction, jobs)
                spent["add"], steps = steps, 0
                claim = Claim.of("default", limit=20)
                claimed = settle_and_claim.settle_and_claim(transaction, worker.id, (), claim).claimed
                assert len(claimed) == 20
                spent["claim"], steps = steps, 0
                done = [Settlement(job.id, job.lease, Ending.COMPLETE, b"1") for job in claimed]
                settle_and_claim.settle_and_claim(transaction, worker.id, done, claim)
                spent["settle_and_claim"], steps = steps, 0
                maintenance.promote(transaction, 1000)
                spent["promote"], steps = steps, 0
                maintenance.lead(transaction, worker.id, 10.0)
                rescuing.find_lost(transaction)
                spent["lead and rescue"], steps = steps, 0
                pruning.prune_some(transaction, [("default", "completed", 0)], 500)
                spent["prune"] = steps
                connection.set_progress_handler(None, 1)
                return spent

            assert storage._opened is not None
            costs.append(await storage._opened.writer.call(work))
    empty, full = costs
    assert full == {name: pytest.approx(spent, rel=0.05, abs=60) for name, spent in empty.items()}
