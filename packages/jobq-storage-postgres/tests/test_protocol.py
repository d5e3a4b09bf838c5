"""Answers that do not match their statements, as from a server that is not PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.pq import ConnStatus, ExecStatus

from jobq_core.errors import StorageError
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.protocol import Statement, execute

ROWS = SimpleNamespace(status=ExecStatus.TUPLES_OK, command_status=b"SELECT 1")
SYNC = SimpleNamespace(status=ExecStatus.PIPELINE_SYNC)


class Scripted:
    """A connection that returns these results, whatever was sent."""

    status = ConnStatus.OK

    def __init__(self, *results: Any) -> None:
        self._results = list(results)

    def get_result(self) -> Any:
        return self._results.pop(0)

    def flush(self) -> int:
        return 0

    is_busy = flush
    send_query_params = pipeline_sync = lambda self, *_: None


@pytest.mark.parametrize("results", [[SYNC], [ROWS, SYNC], [ROWS, None, ROWS, ROWS, SYNC]], ids=["0", "1", "3"])
def test_a_wrong_number_of_answers_is_an_error(results: list[Any]) -> None:
    steps = [(Statement("one", "SELECT 1"), ()), (Statement("two", "SELECT 2"), ())]
    with pytest.raises(psycopg.OperationalError, match="2 statements got"):
        next(execute(Scripted(*results), steps, None))  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH])
def test_a_copy_that_was_not_requested_is_an_error(status: ExecStatus) -> None:
    # libpq returns such a result again and again: without a check, the loop would never end.
    scripted = Scripted(*[SimpleNamespace(status=status)] * 1000)
    with pytest.raises(psycopg.OperationalError, match="COPY"):
        next(execute(scripted, [(Statement("one", "SELECT 1"), ())], None))  # type: ignore[arg-type]


@pytest.mark.parametrize(("rows", "said"), [(0, 1), (2, 1), (1, 0)])
def test_a_wrong_number_of_rows_is_an_error(rows: int, said: int) -> None:
    result = SimpleNamespace(status=ExecStatus.TUPLES_OK, command_status=b"", command_tuples=said, ntuples=rows)
    with pytest.raises(psycopg.OperationalError, match=f"announced {said} rows, sent {rows}"):
        next(execute(Scripted(result, SYNC), [(Statement("one", "SELECT 1"), ())], None))  # type: ignore[arg-type]


@pytest.fixture
async def storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    made = PostgresQueueStorage(postgres_dsn, schema=empty_schema)
    async with made:
        yield made


async def test_rows_of_another_shape_are_an_error_and_close_the_connection(
    storage: PostgresQueueStorage,
) -> None:
    database = storage._engine.database
    taken = []

    def load(connection: Any, results: Any) -> Any:
        taken.append(connection)
        return connection.load(results[0], tuple)[1]

    with pytest.raises(StorageError, match="does not match the statement"):
        await database.run([(Statement("one", "SELECT 1"), ())], load)
    assert taken[0].closed
    assert await database.run(
        [(Statement("one", "SELECT 1"), ())], lambda connection, results: connection.load(results[0], tuple)
    )
