"""Programs: the same operations over a connection of an event loop, of a thread, and of a caller."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from psycopg.rows import tuple_row

from jobq_core.errors import StorageUnavailableError, UniqueKeyBusyError
from jobq_core.ids import new_id
from jobq_core.states import Ending, JobState
from jobq_core.storage import Claim, Settlement
from jobq_core.testing import new_job, worker_info
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.adapters import AdapterContext
from jobq_storage_postgres.adding_programs import add, add_alone
from jobq_storage_postgres.changing import change
from jobq_storage_postgres.programs import Last, Program, Rows, drive, drive_sync, part
from jobq_storage_postgres.protocol import Statement, Step
from jobq_storage_postgres.records import get
from jobq_storage_postgres.settling import Settling, settle
from jobq_storage_postgres.sync_connection import SyncConnection

STEP: Step = (Statement("one", "SELECT 1"), ())

Run = Callable[[Sequence[Step]], Rows]


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    storage = PostgresQueueStorage(postgres_dsn, schema=empty_schema)
    async with storage:
        await storage.add([new_job()])  # so that the line of the queue is known
        yield storage


def over_our_connection(storage: PostgresQueueStorage) -> Iterator[Run]:
    """A connection of our own, as threads use it: a transaction for each round trip."""
    connection = SyncConnection(storage._settings.address, 30.0)
    yield connection.fetch_all
    connection.close()


def over_psycopg(storage: PostgresQueueStorage) -> Iterator[Run]:
    """A connection of psycopg's, as a synchronous caller has it, in one transaction until the test commits."""
    with psycopg.connect(
        **storage._settings.address.complete(), context=AdapterContext(), row_factory=tuple_row
    ) as connection:

        def run(steps: Sequence[Step]) -> Rows:
            rows: Rows = []
            for statement, params in steps:
                result = connection.pgconn.exec_params(
                    statement.sql, list(params), param_formats=[1] * len(params), result_format=1
                )
                if result.error_message:
                    raise psycopg.errors.error_from_result(result)
                transformer = psycopg.adapt.Transformer(connection)
                transformer.set_pgresult(result)
                rows.append(transformer.load_rows(0, result.ntuples, tuple))
            return rows

        connection.autocommit = True
        yield run


@pytest.fixture(params=[over_our_connection, over_psycopg])
def run(request: pytest.FixtureRequest, storage: PostgresQueueStorage) -> Iterator[Run]:
    yield from request.param(storage)


async def test_add_get_abort_and_complete_run_in_a_thread_without_an_event_loop(
    storage: PostgresQueueStorage, run: Run
) -> None:
    statements = storage._engine.statements
    worker = worker_info(queues=("default",))
    await storage.register(worker)
    await storage.clear("default")
    first, second, twin = new_job(unique_key="one"), new_job(), new_job(unique_key="one")
    seen: dict[str, Any] = {}

    def before() -> None:
        seen["unique"] = drive_sync(add(statements, [first]), run)
        seen["twin"] = drive_sync(add(statements, [twin]), run)
        seen["plain"] = drive_sync(add_alone(statements, [second]), run)
        seen["again"] = drive_sync(add_alone(statements, [second]), run)
        seen["got"] = drive_sync(get(statements, [first.id, second.id, twin.id]), run)
        seen["aborted"] = drive_sync(
            change(statements, "abort", [first.id, new_id()], seen.setdefault("topics", set())), run
        )

    in_thread(before)
    assert [(one.id, one.created) for name in ("unique", "twin", "plain", "again") for one in seen[name]] == [
        (first.id, True),
        (first.id, False),
        (second.id, True),
        (second.id, False),
    ]
    assert [record and record.id for record in seen["got"]] == [first.id, second.id, None]
    assert [(one.before, one.after) for one in seen["aborted"]] == [(JobState.PENDING, JobState.ABORTED), (None, None)]
    assert seen["topics"]
    (claimed,) = (await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=9))).claimed
    assert claimed.id == second.id
    settlements = [Settlement(claimed.id, claimed.lease, Ending.COMPLETE, result=b"7")]
    settling = Settling(settlements)
    in_thread(lambda: drive_sync(settle(statements, settling), run))
    assert settling.states(settlements) == [JobState.COMPLETED]
    (record,) = await storage.get([second.id])
    assert record is not None
    assert record.result_json == b"7"


async def test_a_key_that_is_held_elsewhere_is_told_to_a_thread_too(
    storage: PostgresQueueStorage, postgres_dsn: str
) -> None:
    statements = storage._engine.statements
    async with await psycopg.AsyncConnection.connect(postgres_dsn) as holder:
        await storage.add([new_job(unique_key="held")], connection=holder)
        connection = SyncConnection(storage._settings.address, 30.0)
        with pytest.raises(UniqueKeyBusyError, match="held"):
            drive_sync(add(statements, [new_job(unique_key="held")]), connection.fetch_all)
        connection.close()


async def test_a_retry_that_waited_for_no_key_raises_its_own_error(storage: PostgresQueueStorage) -> None:
    program = change(storage._engine.statements, "retry", [new_id()], set())
    next(program)
    error = StorageUnavailableError("a row is locked")
    error.__cause__ = psycopg.errors.LockNotAvailable()
    ((statement, _),) = program.throw(error)
    assert statement.name == "busy_key"
    with pytest.raises(StorageUnavailableError, match="a row is locked"):
        program.send([[(None,) * 5]])


def in_thread(work: Callable[[], object]) -> None:
    """Run this in a thread, and raise its exception here."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def careful() -> Program[str]:
    """A program that goes on after an error of its first statement."""
    try:
        yield [STEP]
    except StorageUnavailableError:
        ((row,),) = yield Last([STEP])
        return f"after an error {row}"
    return "without an error"


def failing_once() -> Run:
    """A driver's connection whose first statement fails."""
    calls: list[Sequence[Step]] = []

    def run(steps: Sequence[Step]) -> Rows:
        calls.append(steps)
        if len(calls) == 1:
            raise StorageUnavailableError("away")
        return [[1] for _ in steps]

    return run


async def test_an_error_of_a_statement_is_raised_in_its_program() -> None:
    run = failing_once()
    assert drive_sync(careful(), run) == "after an error 1"
    run = failing_once()

    async def run_later(steps: Sequence[Step]) -> Rows:
        return run(steps)

    assert await drive(careful(), run_later) == "after an error 1"


async def test_an_error_that_a_program_does_not_expect_reaches_the_caller() -> None:
    def careless() -> Generator[Sequence[Step], Rows, UUID]:
        yield [STEP]
        return new_id()

    with pytest.raises(StorageUnavailableError):
        drive_sync(careless(), failing_once())


def test_a_part_of_a_longer_program_does_not_end_its_transaction() -> None:
    yielded: list[bool] = []

    def short() -> Program[int]:
        ((row,),) = yield Last([STEP])
        return int(row)

    def run(steps: Sequence[Step]) -> Rows:
        yielded.append(isinstance(steps, Last))
        return [[5]]

    assert drive_sync(part(short()), run) == 5
    assert drive_sync(short(), run) == 5
    assert yielded == [False, True]
