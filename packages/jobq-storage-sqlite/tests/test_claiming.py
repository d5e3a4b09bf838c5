"""Claiming and settling: entries without a job, suspended jobs in any number, and what the writer keeps in mind."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobq_core.records import WorkerInfo
from jobq_core.states import Ending, JobState
from jobq_core.storage import UNFIT_ARGUMENTS, UNKNOWN_KIND, Claim, ClaimedJob, Line, Settlement
from jobq_core.testing import add_job, claim, claim_one, new_job, read, register_worker, settle, state_of
from jobq_storage_sqlite import SqliteQueueStorage, group_commit
from jobq_storage_sqlite.settling import settle as settle_runs
from jobq_storage_sqlite.suspending import free_suspended
from jobq_storage_sqlite.transaction import Transaction


def write(path: Path, statement: str, *values: Any) -> int:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).rowcount


def done(*jobs: ClaimedJob) -> list[Settlement]:
    return [Settlement(job.id, job.lease, Ending.COMPLETE, b"1") for job in jobs]


async def suspend_all(storage: SqliteQueueStorage, worker: WorkerInfo, reason: str, declaration: str | None) -> None:
    """Hand back all PENDING jobs, as a worker that cannot take them does."""
    while claimed := await claim(storage, worker, 1000):
        ended = [
            Settlement(job.id, job.lease, Ending.SUSPEND, reason=reason, declaration=declaration) for job in claimed
        ]
        await storage.settle_and_claim(worker.id, ended)


async def test_entries_without_a_job_are_deleted_by_the_claim_that_meets_them(storage: SqliteQueueStorage) -> None:
    """At eight of them a second, they stalled a queue."""
    worker = await register_worker(storage)
    jobs = [await add_job(storage) for _ in range(5)]
    for job in jobs[:3]:
        write(storage.path, "DELETE FROM jobq_job WHERE id = ?", job.bytes)
    answer = await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=4))
    assert ([job.id for job in answer.claimed], answer.picked) == (jobs[3:4], 4)
    answer = await storage.settle_and_claim(worker.id, (), Claim.of("default", limit=4))
    assert ([job.id for job in answer.claimed], answer.picked) == (jobs[4:], 1)
    assert write(storage.path, "DELETE FROM jobq_life WHERE state = 'pending'") == 0


async def test_a_claim_on_many_lines_takes_from_those_in_use(storage: SqliteQueueStorage) -> None:
    worker = await register_worker(storage)
    for queue in ("q7", "q3", "q90"):
        await storage.add([new_job(queue=queue) for _ in range(3)])
    lines = tuple(Line(f"q{number}", 2) for number in range(100))
    answer = await storage.settle_and_claim(worker.id, (), Claim(lines, 5))
    assert [job.queue for job in answer.claimed] == ["q3", "q3", "q7", "q7", "q90"]


async def test_suspended_jobs_cost_a_claim_nothing_that_cannot_take_them(storage: SqliteQueueStorage) -> None:
    """60,000 jobs of a removed kind cost 1,100 hand-backs a second, without end."""
    worker = await register_worker(storage)
    spent = []

    def count(transaction: Transaction) -> int:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        connection: Any = transaction.connection
        connection.set_progress_handler(step, 1)
        freed = free_suspended(transaction, ["default"], {"noop": "new", "send": "new"}, limit=100)
        connection.set_progress_handler(None, 1)
        assert freed == 0
        return steps

    for jobs in (10, 2000):
        await storage.add([new_job(kind="gone") for _ in range(jobs)])
        await suspend_all(storage, worker, UNKNOWN_KIND, None)
        await storage.add([new_job(kind="send") for _ in range(jobs)])
        await suspend_all(storage, worker, UNFIT_ARGUMENTS, "new")
        assert storage._opened is not None
        spent.append(await storage._opened.writer.call(count))
    assert spent[1] == pytest.approx(spent[0], rel=0.1)


async def test_suspended_jobs_that_left_are_forgotten_when_they_are_met(storage: SqliteQueueStorage) -> None:
    worker = await register_worker(storage)
    jobs = [await add_job(storage, kind="gone") for _ in range(4)]
    await suspend_all(storage, worker, UNKNOWN_KIND, None)
    await storage.abort([jobs[0]])
    await storage.delete([jobs[1]])
    await storage.disable([jobs[2]])
    claim_known = Claim.of("default", limit=10, kinds=(("gone", "declared"),))
    answer = await storage.settle_and_claim(worker.id, (), claim_known)
    assert ([job.id for job in answer.claimed], answer.freed) == ([jobs[3]], 1)
    assert write(storage.path, "DELETE FROM jobq_suspended") == 0


async def test_a_run_may_be_settled_through_another_object_than_it_was_claimed_through(
    storage: SqliteQueueStorage, path: Path
) -> None:
    worker = await register_worker(storage)
    jobs = [await add_job(storage, unique_key=str(number), followed=True) for number in range(3)]
    claimed = await claim(storage, worker)
    async with SqliteQueueStorage(path) as other:
        assert await settle(other, worker, claimed[0]) is JobState.COMPLETED
        # What the first object keeps in mind of this run is not true any more.
        assert (await storage.settle_and_claim(worker.id, done(*claimed))).settled == [JobState.COMPLETED] * 3
    assert (await storage.counts("default"))["default"][JobState.COMPLETED] == 3
    assert [record.jobs for record in await storage.statistics()] == [3]
    assert [ended.id for ended in await storage.resolve()] == jobs
    assert {await add_job(storage, unique_key=str(number)) for number in range(3)}.isdisjoint(jobs)


async def test_what_is_kept_in_mind_of_runs_is_bounded(
    storage: SqliteQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "RUNS_LIMIT", 5)
    worker = await register_worker(storage)
    await storage.add([new_job() for _ in range(20)])
    claimed = await claim(storage, worker)
    answer = await storage.settle_and_claim(worker.id, done(*claimed))
    assert answer.settled == [JobState.COMPLETED] * 20
    assert storage._opened is not None
    assert await storage._opened.writer.call(lambda transaction: len(transaction.runs)) == 0


async def test_an_operation_that_fails_notes_nothing(storage: SqliteQueueStorage) -> None:
    """Beside others in its group, which are counted once, although all are done again."""
    worker = await register_worker(storage)
    await storage.add([new_job() for _ in range(3)])
    claimed = await claim(storage, worker)

    def settle_and_fail(transaction: Transaction, job: ClaimedJob) -> None:
        assert settle_runs(transaction, done(job)) == [JobState.COMPLETED]
        raise RuntimeError("no")

    def settle_alone(transaction: Transaction, job: ClaimedJob) -> None:
        assert settle_runs(transaction, done(job)) == [JobState.COMPLETED]

    assert storage._opened is not None
    call = storage._opened.writer.call
    works = [settle_alone, settle_and_fail, settle_alone]
    calls = [call(partial(work, job=job)) for work, job in zip(works, claimed, strict=True)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), RuntimeError, type(None)]
    assert await state_of(storage, claimed[1].id) is JobState.PROCESSING
    assert (await storage.counts("default"))["default"][JobState.COMPLETED] == 2
    assert [record.jobs for record in await storage.statistics()] == [2]


async def test_extra_that_newer_code_wrote_survives_every_transition(storage: SqliteQueueStorage) -> None:
    worker = await register_worker(storage)
    job = await add_job(storage, gated=True)
    write(storage.path, """UPDATE jobq_life SET extra = '{"lane": "a"}', flags = flags + 64""")

    async def kept(job: UUID) -> tuple[str, int]:
        with closing(sqlite3.connect(storage.path)) as connection:
            kept: tuple[str, int] = connection.execute("SELECT extra, flags FROM jobq_life").fetchone()
            return kept

    assert await storage.admit([job]) == 1
    await settle(storage, worker, await claim_one(storage, worker), Ending.RETRY)
    await storage.admit([job])
    await storage.disable([job])
    await storage.enable([job])
    await storage.admit([job])
    claimed = await claim_one(storage, worker)
    assert await kept(job) == ('{"lane": "a"}', 65)
    ending = Settlement(claimed.id, claimed.lease, Ending.SUSPEND, reason=UNFIT_ARGUMENTS, declaration="old")
    await storage.settle_and_claim(worker.id, [ending])
    assert await kept(job) == ('{"lane":"a","refused":["old"]}', 65)
    await storage.abort([job])
    await storage.retry([job])
    assert (await read(storage, job)).reason == "gated"
    assert await kept(job) == ('{"lane":"a","refused":["old"]}', 65)
