"""A fixed set of statements, prepared by name and sent in pipeline mode over `psycopg.pq`.

Several statements share one round trip, and all statements up to the next 'sync' are one transaction. `execute` is a
generator: it yields what to wait for at the socket, so that event loops and threads share it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from jobq_storage_postgres.binary import Params

READ: Final = 1
WRITE: Final = 2

Exchange: TypeAlias = "Generator[int, int, Any]"
"""A round trip: yields what to wait for (READ, WRITE), is sent what became ready, and returns the answer."""


class Statement:
    """One SQL statement with parameters $1, $2, …, prepared under a name of its own.

    has_rows: whether it returns rows, as a driver of a caller's connection must know.
    """

    __slots__ = ("has_rows", "key", "name", "sql")

    def __init__(self, name: str, sql: str, *, has_rows: bool = True) -> None:
        self.name = name
        self.has_rows = has_rows
        self.key = f"jobq_{name}".encode()
        self.sql = sql.encode()

    def __repr__(self) -> str:
        return f"<Statement {self.name}>"


Step: TypeAlias = "tuple[Statement, Params]"
"""A statement and its parameters in binary format."""


class TimeLimitError(psycopg.OperationalError):
    """The server did not answer within the time limit."""


def send(pgconn: PGconn, steps: Sequence[Step], prepared: set[bytes] | None) -> list[bytes]:
    """Queue statements that are one transaction, and return the names that they prepare. Call `pgconn.flush` next."""
    added: list[bytes] = []
    for statement, params in steps:
        formats = [1] * len(params)
        if prepared is None:
            pgconn.send_query_params(statement.sql, params, [0] * len(params), formats, 1)
            continue
        if statement.key not in prepared and statement.key not in added:
            pgconn.send_prepare(statement.key, statement.sql)
            added.append(statement.key)
        pgconn.send_query_prepared(statement.key, params, formats, 1)
    pgconn.pipeline_sync()
    return added


_COPIES: Final = frozenset({ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH})


def receive(pgconn: PGconn) -> Generator[int, int, list[PGresult]]:
    """Return the results of one transaction; raises the driver's error of the first statement that failed."""
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
            # libpq would return this result again and again.
            raise psycopg.OperationalError("the server began a COPY that was not requested")
        if status == ExecStatus.FATAL_ERROR:
            failed = failed or result
            if pgconn.status == ConnStatus.BAD:
                break
        results.append(result)
    if failed is not None:
        raise psycopg.errors.error_from_result(failed)
    return results


def execute(
    pgconn: PGconn, steps: Sequence[Step], prepared: set[bytes] | None, rider: Step | None = None
) -> Generator[int, int, list[PGresult]]:
    """Run statements as one transaction in one round trip, and return one result per statement.

    prepared: the names of the statements prepared on this connection, which is updated; None prepares nothing. The
    connection is in pipeline mode. rider: a statement that is sent along as a second transaction, whose answer is left
    for `receive`; after its error the connection must be closed. Raises the driver's error of the first statement that
    failed.
    """
    added = send(pgconn, steps, prepared)
    if rider is not None:
        rider_added = send(pgconn, [rider], prepared)
        if prepared is not None:
            prepared.update(rider_added)
    while pgconn.flush():
        if (yield READ | WRITE) & READ:
            pgconn.consume_input()
    results = yield from receive(pgconn)
    if prepared is not None and added:
        prepared.update(added)
        results = [result for result in results if not _answers_prepare(result)]
    if len(results) != len(steps):
        # The server breaks the protocol, so results can no longer be matched to statements.
        raise psycopg.OperationalError(f"{len(steps)} statements got {len(results)} answers")
    for result in results:
        if result.status == ExecStatus.TUPLES_OK and result.command_tuples not in (result.ntuples, None):
            raise psycopg.OperationalError(f"the server announced {result.command_tuples} rows, sent {result.ntuples}")
    return results


def _answers_prepare(result: PGresult) -> bool:
    # The answer to a 'prepare' is the only result that has neither columns nor a command's name.
    return result.status == ExecStatus.COMMAND_OK and not result.command_status
