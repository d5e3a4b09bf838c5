"""The writer: groups, locks, time limits, cancelled callers, failing disks."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobq_core.errors import ClosedError, StorageError, StorageUnavailableError
from jobq_core.records import WorkerStats
from jobq_core.storage import Claim, NewJob
from jobq_core.testing import add_job, claim_one, new_job, register_worker, state_of, worker_info
from jobq_storage_sqlite import SqliteQueueStorage, group_commit
from jobq_storage_sqlite.file_identity import FileIdentity
from jobq_storage_sqlite.transaction import Transaction


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Hold the write lock, as another process would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        if connection.in_transaction:
            connection.execute("ROLLBACK")


async def on_writer(storage: SqliteQueueStorage, work: Callable[[Any], Any]) -> Any:
    """Do something with the writer's connection, in its thread."""
    assert storage._opened is not None
    return await storage._opened.writer.call(lambda transaction: work(transaction.connection))


class Gate:
    """An operation that stays in the writer's thread until it is let go."""

    def __init__(self, storage: SqliteQueueStorage) -> None:
        self.entered = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._go = threading.Event()
        assert storage._opened is not None
        self.task = asyncio.create_task(storage._opened.writer.call(self._stay))

    def _stay(self, transaction: Transaction) -> None:
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self._go.wait(30)

    def open(self) -> None:
        self._go.set()


async def test_writes_that_queue_up_are_committed_together(storage: SqliteQueueStorage) -> None:
    seen: list[str] = []
    await on_writer(storage, lambda connection: connection.set_trace_callback(seen.append))
    gate = Gate(storage)
    await gate.entered.wait()
    adding = [asyncio.create_task(add_job(storage)) for _ in range(50)]
    await asyncio.sleep(0)
    gate.open()
    jobs = await asyncio.gather(*adding)
    assert seen.count("COMMIT") == 3, "of setting the trace, of the gate, and one for the fifty"
    assert len({*jobs}) == 50
    assert None not in await storage.get_status(jobs)


async def test_an_operation_that_fails_in_a_group_undoes_its_own_changes_only(storage: SqliteQueueStorage) -> None:
    gate = Gate(storage)
    await gate.entered.wait()
    good, bad = new_job(), new_job(priority=2**70)
    jobs = ([good], [new_job(), bad], [new_job()])
    adding = [asyncio.create_task(storage.add(some)) for some in jobs]
    await asyncio.sleep(0)
    gate.open()
    results = await asyncio.gather(*adding, return_exceptions=True)
    assert [isinstance(result, Exception) for result in results] == [False, True, False]
    assert isinstance(results[1], StorageError)
    assert [status is not None for some in jobs for status in await storage.get_status([job.id for job in some])] == [
        True,
        False,
        False,
        True,
    ]


async def test_a_group_that_may_have_been_committed_is_not_tried_again(
    storage: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await register_worker(storage)
    ready = [await add_job(storage) for _ in range(2)]
    jobs = [new_job() for _ in range(2)]
    gate = Gate(storage)
    await gate.entered.wait()
    asking = [
        asyncio.create_task(storage.settle_and_claim(worker.id, (), Claim.of("default", limit=1))),
        *(asyncio.create_task(storage.add([job])) for job in jobs),
    ]
    await asyncio.sleep(0)
    # The file is missing after the commit, and back before the next.
    errors = iter([None, StorageUnavailableError("it was moved away")])

    def verify(self: FileIdentity, connection: sqlite3.Connection) -> None:
        if (error := next(errors, None)) is not None:
            raise error

    monkeypatch.setattr(FileIdentity, "verify", verify)
    gate.open()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StorageUnavailableError] * 3
    # The commit took effect: one job is claimed, and the worker finds it by recover_claims.
    assert [claimed.id for claimed in await storage.recover_claims(worker.id, ())] == ready[:1]
    assert [[added.created for added in await storage.add([job])] for job in jobs] == [[False]] * 2


async def test_a_broken_connection_keeps_no_lock_though_a_cursor_of_it_lives_on(
    storage: SqliteQueueStorage, path: Path
) -> None:
    def break_down(transaction: Transaction) -> None:
        cursor = transaction.connection.execute("SELECT name FROM sqlite_master")
        assert cursor.fetchone()
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    assert storage._opened is not None
    with pytest.raises(StorageUnavailableError) as caught:
        await storage._opened.writer.call(break_down)
    with locked(path):
        pass
    await add_job(storage)
    assert caught.value.__cause__ is not None, "which has the cursor in its traceback"


async def test_a_cancelled_caller_leaves_no_transaction_open(storage: SqliteQueueStorage, path: Path) -> None:
    gate = Gate(storage)
    await gate.entered.wait()
    job = new_job()
    adding = asyncio.create_task(storage.add([job]))
    await asyncio.sleep(0)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    gate.open()
    await gate.task
    assert await storage.get_status([job.id]) == [None]
    with locked(path):
        pass


async def test_a_caller_cancelled_in_the_middle_leaves_all_or_nothing(storage: SqliteQueueStorage) -> None:
    for turns in range(8):
        jobs = [new_job() for _ in range(100)]
        adding = asyncio.create_task(storage.add(jobs))
        for _ in range(turns):
            await asyncio.sleep(0)
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
        await storage.add([new_job()])  # whatever was under way is over now
        assert {status is None for status in await storage.get_status([job.id for job in jobs])} in ({True}, {False})


async def test_a_lock_held_for_longer_than_busy_timeout_is_unavailable_and_then_over(path: Path) -> None:
    async with SqliteQueueStorage(path, busy_timeout=0.1) as storage:
        with locked(path):
            results = await asyncio.gather(*(storage.add([new_job()]) for _ in range(5)), return_exceptions=True)
            assert [type(result) for result in results] == [StorageUnavailableError] * 5
            assert all(isinstance(result.__cause__, sqlite3.OperationalError) for result in results)  # type: ignore[union-attr]
            assert "busy_timeout" in str(results[0])
            assert await storage.counts("default")  # reading goes on
        await add_job(storage)


async def test_a_lock_held_for_shorter_is_only_waited_for(storage: SqliteQueueStorage, path: Path) -> None:
    with locked(path) as connection:
        adding = asyncio.create_task(add_job(storage))
        # The reader answers while the writer waits.
        assert (await storage.counts("default"))["default"] == (await storage.counts("default"))["default"]
        connection.execute("ROLLBACK")
        assert await storage.get_status([await adding]) != [None]


async def test_a_call_that_gets_no_answer_is_given_up_on(
    storage: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert storage._opened is not None
    writer = storage._opened.writer
    gate = Gate(storage)
    await gate.entered.wait()
    assert writer._timer is not None  # of the longer limit until now
    writer._timer.cancel()
    writer._timer = None
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_limit", 0.3)
        results = await asyncio.gather(gate.task, add_job(storage), add_job(storage), return_exceptions=True)
        assert [type(result) for result in results] == [StorageUnavailableError] * 3
        assert "no answer within 0.3 seconds" in str(results[1])
    gate.open()
    await add_job(storage)


async def test_closing_finishes_what_is_under_way(path: Path) -> None:
    jobs = [new_job() for _ in range(20)]
    async with SqliteQueueStorage(path) as storage:
        gate = Gate(storage)
        await gate.entered.wait()
        adding = [asyncio.create_task(storage.add([job])) for job in jobs]
        await asyncio.sleep(0)
        closing_it = asyncio.create_task(storage.close())
        await asyncio.sleep(0)
        with pytest.raises(ClosedError):
            await storage.add([new_job()])
        gate.open()
        await closing_it
        assert [added.created for [added] in await asyncio.gather(*adding)] == [True] * 20
    async with SqliteQueueStorage(path) as storage:
        assert None not in await storage.get_status([job.id for job in jobs])


async def test_a_heartbeat_does_not_wait_for_a_busy_event_loop(storage: SqliteQueueStorage) -> None:
    worker = await register_worker(storage)
    heartbeat = storage.heartbeat(worker)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(heartbeat.beat(WorkerStats(completed=3))))
    thread.start()
    thread.join(30)  # blocks the loop, as a handler might
    assert answers == [True]
    assert [known.stats.completed for known in await storage.workers()] == [3]


async def test_a_heartbeat_without_an_answer_gives_up_and_a_later_one_succeeds(
    storage: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat = storage.heartbeat(await register_worker(storage))
    gate = Gate(storage)
    await gate.entered.wait()
    with monkeypatch.context() as patch:
        patch.setattr(heartbeat, "_timeout", 0.1)
        with pytest.raises(StorageUnavailableError):
            await asyncio.to_thread(heartbeat.beat, WorkerStats())
    gate.open()
    await gate.task
    assert await asyncio.to_thread(heartbeat.beat, WorkerStats())
    heartbeat.close()
    heartbeat.close()


async def test_a_heartbeat_of_a_closed_storage_says_so(path: Path) -> None:
    async with SqliteQueueStorage(path) as storage:
        heartbeat = storage.heartbeat(worker_info())
    with pytest.raises(ClosedError):
        heartbeat.beat(WorkerStats())


async def pragma(storage: SqliteQueueStorage, statement: str) -> Any:
    """Run a pragma on the writer's connection."""
    return await on_writer(storage, lambda connection: connection.execute(f"PRAGMA {statement}").fetchall())


async def add_until_full(storage: SqliteQueueStorage, stored: list[NewJob]) -> None:
    while True:
        job = new_job(arguments=b'"' + b"x" * 3000 + b'"')
        await storage.add([job])
        stored.append(job)


async def test_a_full_disk_raises_and_loses_nothing(storage: SqliteQueueStorage) -> None:
    # A limit on the size of the file raises the same error as a full disk.
    [(pages,)] = await pragma(storage, "page_count")
    await pragma(storage, f"max_page_count = {pages + 40}")
    stored: list[NewJob] = []
    with pytest.raises(StorageError, match="full"):
        await add_until_full(storage, stored)
    assert stored
    big = [[new_job(arguments=b'"' + b"x" * 9000 + b'"')] for _ in range(8)]
    results = await asyncio.gather(*(storage.add(some) for some in big), return_exceptions=True)
    assert {type(result) for result in results} <= {StorageUnavailableError, list}
    assert None not in await storage.get_status([job.id for job in stored])
    await pragma(storage, "max_page_count = 1000000")
    assert [added.created for added in await storage.add([new_job()])] == [True]
    assert await pragma(storage, "integrity_check") == [("ok",)]


async def test_in_a_group_on_a_full_disk_each_fails_or_succeeds_by_itself(storage: SqliteQueueStorage) -> None:
    await storage.add([new_job() for _ in range(50)])
    [(pages,)] = await pragma(storage, "page_count")
    await pragma(storage, f"max_page_count = {pages + 3}")
    gate = Gate(storage)
    await gate.entered.wait()
    small, huge = new_job(), new_job(arguments=b'"' + b"x" * 100_000 + b'"')
    adding = [asyncio.create_task(storage.add([job])) for job in (small, huge)]
    await asyncio.sleep(0)
    gate.open()
    [one], other = await asyncio.gather(*adding, return_exceptions=True)  # type: ignore[misc]
    assert one.created
    assert isinstance(other, StorageUnavailableError)
    assert [status is None for status in await storage.get_status([small.id, huge.id])] == [False, True]


async def test_leases_are_never_used_twice_not_even_after_deletes_and_restarts(path: Path) -> None:
    leases: list[int] = []
    for _ in range(3):
        async with SqliteQueueStorage(path) as storage:
            worker = await register_worker(storage)
            for _ in range(3):
                await add_job(storage)
                claimed = await claim_one(storage, worker)
                leases.append(claimed.lease)
                await storage.delete([claimed.id])
    assert leases == sorted(set(leases))


async def test_an_empty_claim_writes_nothing(storage: SqliteQueueStorage, path: Path) -> None:
    worker = await register_worker(storage)
    log = path.with_name("jobs.db-wal")
    size = log.stat().st_size
    for _ in range(10):
        await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=10))
    assert log.stat().st_size == size


async def test_the_claims_of_a_cancelled_call_are_recovered(storage: SqliteQueueStorage) -> None:
    worker = await register_worker(storage)
    job = await add_job(storage)
    exchanging = asyncio.create_task(storage.settle_and_claim(worker.id, (), Claim.of("default", limit=10)))
    await asyncio.sleep(0)
    exchanging.cancel()
    adopted: list[UUID] = [claimed.id for claimed in await storage.recover_claims(worker.id, ())]
    state = await state_of(storage, job)
    assert adopted == ([job] if state == "processing" else [])


def test_groups_are_bounded() -> None:
    assert group_commit.GROUP <= 10_000
