"""Answers that are none to what was asked, as from something that is no PostgreSQL or has come out of step."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.pq import ConnStatus, ExecStatus

from jobq_core.errors import StorageError
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.protocol import Statement, converse

ROWS = SimpleNamespace(status=ExecStatus.TUPLES_OK, command_status=b"SELECT 1")
SYNC = SimpleNamespace(status=ExecStatus.PIPELINE_SYNC)


class Told:
    """A connection to which these results come, whatever it is asked."""

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
def test_as_many_answers_as_statements_or_an_error(results: list[Any]) -> None:
    steps = [(Statement("one", "SELECT 1"), ()), (Statement("two", "SELECT 2"), ())]
    with pytest.raises(psycopg.OperationalError, match="2 statements got"):
        next(converse(Told(*results), steps, None))  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH])
def test_a_copy_that_nobody_asked_for_is_an_error(status: ExecStatus) -> None:
    # The driver answers it again and again: one result too many, and it would be waited for without end.
    told = Told(*[SimpleNamespace(status=status)] * 1000)
    with pytest.raises(psycopg.OperationalError, match="copy"):
        next(converse(told, [(Statement("one", "SELECT 1"), ())], None))  # type: ignore[arg-type]


@pytest.mark.parametrize(("rows", "said"), [(0, 1), (2, 1), (1, 0)])
def test_as_many_rows_as_the_server_says_or_an_error(rows: int, said: int) -> None:
    result = SimpleNamespace(status=ExecStatus.TUPLES_OK, command_status=b"", command_tuples=said, ntuples=rows)
    with pytest.raises(psycopg.OperationalError, match=f"{rows} rows came of {said}"):
        next(converse(Told(result, SYNC), [(Statement("one", "SELECT 1"), ())], None))  # type: ignore[arg-type]


@pytest.fixture
async def storage(postgres_dsn: str, postgres_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    made = PostgresQueueStorage(postgres_dsn, schema=postgres_schema)
    await made.migrate()
    async with made:
        yield made


async def test_rows_that_are_not_of_the_kind_asked_for_are_an_error_and_their_connection_is_given_up(
    storage: PostgresQueueStorage,
) -> None:
    database = storage._database
    taken = []

    def load(link: Any, results: Any) -> Any:
        taken.append(link)
        return link.load(results[0], tuple)[1]

    with pytest.raises(StorageError, match="none to what it was asked"):
        await database.run([(Statement("one", "SELECT 1"), ())], load)
    assert taken[0].closed
    assert await database.run([(Statement("one", "SELECT 1"), ())], lambda link, results: link.load(results[0], tuple))
