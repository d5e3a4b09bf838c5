"""The operations are plain functions of a transaction: a synchronous program can drive them as the storage does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import pytest

from jobq_core.records import JobRecord
from jobq_core.states import Ending, JobState
from jobq_core.storage import FINISHED_TOPIC, WAITING_TOPIC, Claim, Settlement
from jobq_core.testing import new_job, worker_info
from jobq_storage_sqlite import SqliteQueueStorage
from jobq_storage_sqlite.adding import add
from jobq_storage_sqlite.boot_clock import Moment
from jobq_storage_sqlite.columns import from_ids
from jobq_storage_sqlite.control import abort, change
from jobq_storage_sqlite.migrations import known
from jobq_storage_sqlite.records import to_record
from jobq_storage_sqlite.settle_and_claim import settle_and_claim
from jobq_storage_sqlite.spans import StoredSpans
from jobq_storage_sqlite.transaction import Transaction
from jobq_storage_sqlite.workers import register

T = TypeVar("T")


class Driver:
    """Runs operations on a connection of the standard library, each in a transaction of its own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.topics: set[str] = set()

    def run(self, work: Callable[[Transaction], T]) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            transaction = Transaction(self._connection, Moment(10**15, 10**9), {}, StoredSpans())
            result = work(transaction)
            self.topics |= transaction.flush().keys()
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return result

    def get(self, job_id: UUID) -> JobRecord:
        [row] = self.run(lambda transaction: transaction.all("get", ids=from_ids([job_id])))
        return to_record(row)


@pytest.fixture
def driver(path: Path) -> Iterator[Driver]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for step in known().steps:
            connection.executescript(step.text)
        yield Driver(connection)


def test_jobs_are_added_read_aborted_and_completed(driver: Driver) -> None:
    one, two = new_job(), new_job()
    worker = worker_info()
    assert [added.created for added in driver.run(partial(add, jobs=[one, two]))] == [True, True]
    assert driver.get(one.id).state is JobState.PENDING
    [changed] = driver.run(partial(change, ids=[one.id], act=abort))
    assert (changed.before, changed.after) == (JobState.PENDING, JobState.ABORTED)
    driver.run(partial(register, worker=worker))
    claim = Claim.of("default", limit=10)
    [claimed] = driver.run(partial(settle_and_claim, worker=worker.id, settlements=(), claim=claim)).claimed
    assert claimed.id == two.id
    done = Settlement(two.id, claimed.lease, Ending.COMPLETE, b'"done"')
    answer = driver.run(partial(settle_and_claim, worker=worker.id, settlements=[done], claim=None))
    assert answer.settled == [JobState.COMPLETED]
    assert driver.get(two.id).result == "done"
    assert driver.topics == {"queue:default", FINISHED_TOPIC, WAITING_TOPIC}


def test_an_operation_that_fails_leaves_nothing(driver: Driver) -> None:
    job = new_job()

    def fail(transaction: Transaction) -> None:
        add(transaction, [job])
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        driver.run(fail)
    assert driver.run(lambda transaction: transaction.all("get", ids=from_ids([job.id]))) == []


async def test_what_it_did_is_what_the_storage_sees(path: Path) -> None:
    job = new_job(tags=("a",), unique_key="k")
    async with SqliteQueueStorage(path) as storage:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            driver = Driver(connection)
            driver.run(partial(add, jobs=[job]))
            driver.run(partial(change, ids=[job.id], act=abort))
            assert await storage.get([job.id]) == [driver.get(job.id)]
        assert (await storage.counts("default"))["default"][JobState.ABORTED] == 1
