"""Operations on many jobs: in transactions of a bounded size, in one round trip each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio

from jobq_core.errors import StorageUnavailableError
from jobq_core.states import JobState
from jobq_core.storage import Claim
from jobq_core.testing import new_job, register_worker
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.connection import Connection
from jobq_storage_postgres.protocol import Step


@pytest_asyncio.fixture
async def storage(postgres_dsn: str, empty_schema: str) -> AsyncIterator[PostgresQueueStorage]:
    async with PostgresQueueStorage(postgres_dsn, schema=empty_schema) as storage:
        yield storage


@pytest.fixture
def chunk(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("jobq_storage_postgres.control.CHUNK", 3)
    monkeypatch.setattr("jobq_storage_postgres.changing.CHUNK", 3)
    return 3


class StopError(Exception):
    """Raised by a test's on_progress."""


async def add(storage: PostgresQueueStorage, count: int, **options: Any) -> list[UUID]:
    return [added.id for added in await storage.add([new_job(**options) for _ in range(count)])]


@pytest.mark.parametrize("operation", ["abort", "disable", "enable", "retry", "delete"])
async def test_an_operation_holds_no_lock_between_two_round_trips(
    storage: PostgresQueueStorage, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await add(storage, 5)
    if operation == "enable":
        await storage.disable(ids)
    elif operation == "retry":
        await storage.abort(ids)
    sent: list[list[str]] = []
    run = Connection.run

    async def spy(self: Connection, steps: Sequence[Step], rider: Step | None = None) -> Any:
        sent.append([statement.name for statement, _ in steps])
        return await run(self, steps, rider)

    monkeypatch.setattr(Connection, "run", spy)
    changes = await getattr(storage, operation)(ids)
    assert all(change.changed for change in changes)
    assert [names for names in sent if operation in names or "BEGIN" in names] == [[operation]]


async def test_abort_run_and_clear_report_how_far_they_are(storage: PostgresQueueStorage, chunk: int) -> None:
    ids = await add(storage, 8, run_id="r")
    reports: list[int] = []
    changes = await storage.abort_run("r", on_progress=reports.append)
    assert [change.id for change in changes] == sorted(ids)
    assert reports == [3, 6, 8]
    reports.clear()
    assert await storage.clear("default", on_progress=reports.append) == 8
    assert reports == [3, 6, 8]


@pytest.mark.parametrize("operation", ["abort_run", "clear"])
async def test_what_is_broken_off_leaves_the_rest_and_can_be_repeated(
    storage: PostgresQueueStorage, chunk: int, operation: str
) -> None:
    await add(storage, 8, run_id="r")

    def stop(done: int) -> None:
        raise StopError

    call = {"abort_run": storage.abort_run, "clear": storage.clear}[operation]
    argument = {"abort_run": "r", "clear": "default"}[operation]
    with pytest.raises(StopError):
        await call(argument, on_progress=stop)
    assert (await storage.counts("default"))["default"][JobState.PENDING] == 5
    done = await call(argument)
    assert (done if isinstance(done, int) else len(done)) == 5
    assert (await storage.counts("default"))["default"][JobState.PENDING] == 0


async def test_many_jobs_are_changed_in_their_order(storage: PostgresQueueStorage, chunk: int) -> None:
    ids = await add(storage, 8)
    await storage.disable(ids)
    wanted = [*ids[4:], *ids[:4]]
    assert [change.id for change in await storage.enable(wanted)] == wanted
    worker = await register_worker(storage)
    claimed = (await storage.settle_and_claim(worker.id, claim=Claim.of("default", limit=10))).claimed
    assert [job.id for job in claimed] == wanted


async def test_a_row_that_another_transaction_holds_is_not_waited_for_without_end(
    postgres_dsn: str, storage: PostgresQueueStorage
) -> None:
    ids = await add(storage, 2)
    async with (
        await psycopg.AsyncConnection.connect(postgres_dsn) as other,
        PostgresQueueStorage(postgres_dsn, schema=storage.schema, time_limit=0.4) as hasty,
    ):
        await other.execute(f"SELECT FROM {storage.schema}.ready WHERE id = %s FOR UPDATE".encode(), (ids[0],))
        for operation in (hasty.abort, hasty.disable, hasty.delete):
            with pytest.raises(StorageUnavailableError):
                await operation(ids)
        assert [change.after for change in await hasty.abort(ids[1:])] == [JobState.ABORTED]
    assert [change.before for change in await storage.abort(ids)] == [JobState.PENDING, JobState.ABORTED]
