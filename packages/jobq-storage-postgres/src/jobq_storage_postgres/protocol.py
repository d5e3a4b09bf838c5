"""A fixed set of statements, prepared by name and sent in pipeline mode over `psycopg.pq`.

Several statements share one round trip, and all statements up to the next 'sync' are one transaction.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final, TypeAlias

import psycopg
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from jobq_storage_postgres.binary import Params


class Statement:
    """One SQL statement with parameters $1, $2, …, under a name."""

    __slots__ = ("formats", "key", "name", "sql")

    def __init__(self, name: str, sql: str) -> None:
        self.name = name
        self.key = f"jobq_{name}".encode()
        self.sql = sql.encode()

    def __repr__(self) -> str:
        return f"<Statement {self.name}>"


Step: TypeAlias = "tuple[Statement, Params]"

READ: Final = 1
WRITE: Final = 2


def say(pgconn: PGconn, steps: Sequence[Step], prepared: set[bytes] | None) -> list[bytes]:
    """Send statements that are one transaction; returns the names that they prepare. What does not go out at once waits
    for `pgconn.flush`."""
    news: list[bytes] = []
    for statement, params in steps:
        formats = [1] * len(params)
        if prepared is None:
            pgconn.send_query_params(statement.sql, params, [0] * len(params), formats, 1)
            continue
        if statement.key not in prepared and statement.key not in news:
            pgconn.send_prepare(statement.key, statement.sql)
            news.append(statement.key)
        pgconn.send_query_prepared(statement.key, params, formats, 1)
    pgconn.pipeline_sync()
    return news


_COPIES: Final = frozenset({ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH})


def hear(pgconn: PGconn) -> Generator[int, int, tuple[list[PGresult], PGresult | None]]:
    """Take in the answers to one transaction: the results, and the first that is an error; yields as `converse`."""
    results: list[PGresult] = []
    failed: PGresult | None = None
    while True:
        while pgconn.is_busy():
            yield READ
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            if pgconn.status == ConnStatus.BAD:
                raise psycopg.OperationalError("the connection was lost")
            continue
        status = result.status
        if status == ExecStatus.PIPELINE_SYNC:
            break
        if status in _COPIES:
            # Nobody asked for one; it would be answered again and again.
            raise psycopg.OperationalError("the server began to copy, unasked")
        if status == ExecStatus.FATAL_ERROR:
            failed = failed or result
            if pgconn.status == ConnStatus.BAD:
                break
        results.append(result)
    return results, failed


def converse(
    pgconn: PGconn, steps: Sequence[Step], prepared: set[bytes] | None, behind: Sequence[Step] = ()
) -> Generator[int, int, list[PGresult]]:
    """Run statements in one transaction and one round trip; yields what to wait for at the socket (READ, WRITE).

    prepared: the names known on this connection, or None to prepare nothing. The connection is in pipeline mode.
    behind: a second transaction, sent behind this one, whose answers are left for `hear`; already prepared.
    Returns a result per statement; raises the driver's error of the first that failed.
    """
    news = say(pgconn, steps, prepared)
    if behind:
        say(pgconn, behind, prepared)
    while pgconn.flush():
        if (yield READ | WRITE) & READ:
            pgconn.consume_input()
    results, failed = yield from hear(pgconn)
    if failed is not None:
        raise psycopg.errors.error_from_result(failed)
    if prepared is not None and news:
        prepared.update(news)
        results = [result for result in results if not _was_preparing(result)]
    if len(results) != len(steps):
        # From no server that keeps to the protocol; whose answer is whose cannot be told any more.
        raise psycopg.OperationalError(f"{len(steps)} statements got {len(results)} answers")
    for result in results:
        if result.status == ExecStatus.TUPLES_OK and result.command_tuples not in (result.ntuples, None):
            raise psycopg.OperationalError(f"{result.ntuples} rows came of {result.command_tuples}")
    return results


def _was_preparing(result: PGresult) -> bool:
    # What answers a 'prepare' is the only result that has neither columns nor a command's name.
    return result.status == ExecStatus.COMMAND_OK and not result.command_status
