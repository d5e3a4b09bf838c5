"""Batch handlers: several jobs run in one call, in one slot, and each is settled for itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from jobq_core import (
    Backoff,
    BatchError,
    ConcurrencyLimiter,
    ConfigurationError,
    Job,
    JobAborting,
    JobContext,
    JobRecord,
    JobStarted,
    JobState,
    PermanentJobError,
    RetryPolicy,
    current_job,
    job,
    provided,
)
from jobq_core.adding import new_job
from jobq_core.ids import new_id
from jobq_core.storage import FINISHED_TOPIC, WAITING_TOPIC
from jobq_core.testing import ManualClockStorage, drain, drain_sync, read, run_inline, run_inline_sync
from jobq_core.testing.without_loop import run_to_end
from jobq_worker import JobQueueWorker

calls: list[list[str]] = []
hold: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    calls.clear()
    hold.clear()
    hold.update(started=asyncio.Event(), go_on=asyncio.Event(), ended=asyncio.Event())


@pytest.fixture
def storage() -> Any:
    with ManualClockStorage() as storage:
        yield storage


@job(batch=3, wait=60)
class Email(Job[str]):
    to: str

    @classmethod
    async def execute(cls, jobs: list[Email]) -> list[str]:
        calls.append([each.to for each in jobs])
        assert current_job() is None
        return [f"sent to {each.to}" for each in jobs]


@job(batch=10, wait=0.01)
class Soon(Job[None]):
    to: str

    @staticmethod
    async def execute(jobs: list[Soon]) -> None:
        calls.append([each.to for each in jobs])


@job(batch=3, wait=60, max_attempts=2, retry=RetryPolicy(backoff=Backoff(base=60, jitter=False)))
class Flaky(Job[str]):
    to: str

    @classmethod
    async def execute(cls, jobs: list[Flaky], contexts: list[JobContext]) -> list[str]:
        errors: dict[int, BaseException] = {}
        for index, (each, context) in enumerate(zip(jobs, contexts, strict=True)):
            if each.to == "bad":
                errors[index] = PermanentJobError("no such address")
            elif each.to == "slow" and context.attempt == 1:
                errors[index] = TimeoutError("no answer")
        if errors:
            raise BatchError(errors, [each.to for each in jobs])
        return [each.to for each in jobs]


@job(batch=2, wait=60)
class InThread(Job[str]):
    to: str

    @classmethod
    def execute(cls, jobs: list[InThread], contexts: list[JobContext]) -> list[str]:
        calls.append([each.to for each in jobs])
        contexts[0].progress(50, "half")
        contexts[1].add(Soon("child"))
        return [threading.current_thread().name for _ in jobs]


@job(batch=2, wait=60)
class Holding(Job[str]):
    """Goes on until the test lets it, and says which of its jobs are to stop."""

    to: str

    @classmethod
    async def execute(cls, jobs: list[Holding], contexts: list[JobContext]) -> list[str]:
        hold["started"].set()
        try:
            await hold["go_on"].wait()
        finally:
            hold["ended"].set()
        calls.append([str(context.aborted) for context in contexts])
        return calls[-1]


class Connection:
    """A resource of one run."""


@job(batch=2, wait=60)
class Saved(Job[None]):
    number: int

    @classmethod
    async def execute(cls, jobs: list[Saved], *, db: Connection = provided()) -> None:
        calls.append([type(db).__name__])
        hold["started"].set()
        await hold["go_on"].wait()
        calls.append(["saved"])


@job(batch=2, wait=60, timeout=0.05, max_attempts=1)
class Late(Job[None]):
    to: str

    @classmethod
    async def execute(cls, jobs: list[Late]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            hold["ended"].set()


def add(storage: ManualClockStorage, *jobs: Job[Any], **options: Any) -> list[UUID]:
    new = [new_job(new_id(), each, "default", options) for each in jobs]  # type: ignore[arg-type]
    return [added.id for added in run_to_end(storage.add(new))]


async def ended(storage: ManualClockStorage, ids: list[UUID]) -> list[JobRecord]:
    """Wait until these jobs have left PENDING and PROCESSING, and return their records."""
    async with asyncio.timeout(20), storage.subscribe([FINISHED_TOPIC, WAITING_TOPIC]) as changes:
        while True:
            records = [await read(storage, each) for each in ids]
            if all(record.state not in (JobState.PENDING, JobState.PROCESSING) for record in records):
                return records
            await changes.wait(1)


@asynccontextmanager
async def working(storage: ManualClockStorage, *kinds: Any, **options: Any) -> AsyncIterator[JobQueueWorker]:
    async with JobQueueWorker(storage, jobs=kinds, stop_timeout=0, **options) as worker:
        yield worker


# In a worker


async def test_a_full_batch_runs_in_one_call_and_each_job_gets_its_result(storage: ManualClockStorage) -> None:
    ids = add(storage, *map(Email, "abcdef"))
    async with working(storage, Email, concurrency=1) as worker:
        records = await ended(storage, ids)
    assert calls == [["a", "b", "c"], ["d", "e", "f"]]
    assert [record.result for record in records] == [f"sent to {name}" for name in "abcdef"]
    total = worker.pool_stats().total
    assert (total.completed, total.running, total.hung) == (6, 0, 0)


async def test_a_batch_that_is_not_full_starts_after_its_wait(storage: ManualClockStorage) -> None:
    ids = add(storage, Soon("a"), Soon("b"))
    async with working(storage, Soon):
        records = await ended(storage, ids)
    assert [record.state for record in records] == [JobState.COMPLETED] * 2
    assert calls == [["a", "b"]]


async def test_a_batch_takes_one_slot_and_leaves_the_others_free(storage: ManualClockStorage) -> None:
    ids = add(storage, *map(Holding, "ab"))
    async with working(storage, Holding, Soon, concurrency=2) as worker:
        await hold["started"].wait()
        [soon] = await ended(storage, add(storage, Soon("c")))
        assert soon.state is JobState.COMPLETED
        assert worker.pool_stats().total.running == 1
        hold["go_on"].set()
        assert [record.result for record in await ended(storage, ids)] == ["False", "False"]
        assert worker.pool_stats().total.running == 0


async def test_batches_of_two_kinds_gather_side_by_side(storage: ManualClockStorage) -> None:
    ids = add(storage, *(kind(name) for name in "abc" for kind in (Email, Flaky)))
    async with working(storage, Email, Flaky, concurrency=2):
        records = await ended(storage, ids)
    assert [record.state for record in records] == [JobState.COMPLETED] * 6
    assert calls == [["a", "b", "c"]]


async def test_a_batch_starts_early_when_another_job_waits_for_its_slot(storage: ManualClockStorage) -> None:
    @job()
    async def alone() -> None:
        calls.append(["alone"])

    ids = add(storage, Email("a"), alone(), Email("b"))
    async with working(storage, Email, alone, concurrency=1):
        records = await ended(storage, ids)
    assert [record.state for record in records] == [JobState.COMPLETED] * 3
    assert calls == [["a", "b"], ["alone"]]


async def test_each_job_fails_is_retried_or_completes_for_itself(storage: ManualClockStorage) -> None:
    ids = add(storage, *map(Flaky, ("good", "bad", "slow")))
    async with working(storage, Flaky):
        good, bad, slow = await ended(storage, ids)
        assert (good.state, good.result) == (JobState.COMPLETED, "good")
        assert (bad.state, bad.attempt, bad.error and bad.error.message) == (JobState.FAILED, 1, "no such address")
        assert (slow.state, slow.attempt, len(slow.attempts)) == (JobState.SCHEDULED, 1, 1)
        storage.clock.advance(60)
        more = add(storage, *map(Flaky, ("x", "y")))
        again = await ended(storage, [ids[2], *more])
    assert [record.result for record in again] == ["slow", "x", "y"]
    assert again[0].attempt == 2


async def test_an_exception_fails_each_job_with_its_own_traceback(storage: ManualClockStorage) -> None:
    @job(batch=2, wait=60, max_attempts=1)
    class Broken(Job[None]):
        to: str

        @classmethod
        async def execute(cls, jobs: list[Broken]) -> None:
            raise LookupError("no server")

    ids = add(storage, *map(Broken, "ab"))
    async with working(storage, Broken):
        first, second = await ended(storage, ids)
    assert first.error is not None
    assert (first.state, first.error.message) == (JobState.FAILED, "no server")
    assert first.error == second.error
    assert first.error.traceback is not None
    assert first.error.traceback.count("in execute") == 1


@pytest.mark.parametrize("returned", [["one"], "ab", 7])
async def test_another_number_of_results_than_jobs_fails_all(storage: ManualClockStorage, returned: Any) -> None:
    @job(batch=2, wait=60)
    class Wrong(Job[str]):
        to: str

        @classmethod
        async def execute(cls, jobs: list[Wrong]) -> list[str]:
            return returned  # type: ignore[no-any-return]

    ids = add(storage, *map(Wrong, "ab"))
    async with working(storage, Wrong):
        records = await ended(storage, ids)
    assert [record.state for record in records] == [JobState.FAILED] * 2
    assert all("must return a list of 2 results" in str(record.error) for record in records)


async def test_a_batch_error_for_a_job_that_is_not_there_fails_all(storage: ManualClockStorage) -> None:
    @job(batch=2, wait=60)
    class Astray(Job[None]):
        to: str

        @classmethod
        async def execute(cls, jobs: list[Astray]) -> None:
            raise BatchError({2: LookupError()})

    ids = add(storage, *map(Astray, "ab"))
    async with working(storage, Astray):
        records = await ended(storage, ids)
    assert [record.state for record in records] == [JobState.FAILED] * 2


@pytest.mark.parametrize("error", ["no such address", LookupError, None])
async def test_a_batch_error_without_an_exception_for_a_job_fails_all(storage: ManualClockStorage, error: Any) -> None:
    @job(batch=2, wait=60)
    class Text(Job[None]):
        to: str

        @classmethod
        async def execute(cls, jobs: list[Text]) -> None:
            raise BatchError({0: error})

    ids = add(storage, *map(Text, "ab"))
    async with working(storage, Text):
        records = await ended(storage, ids)
    assert [record.state for record in records] == [JobState.FAILED] * 2
    assert all("takes an exception for each failed job" in str(record.error) for record in records)


async def test_a_sync_handler_runs_in_a_thread_and_each_context_is_its_jobs(storage: ManualClockStorage) -> None:
    ids = add(storage, *map(InThread, "ab"))
    async with working(storage, InThread, Soon):
        first, second = await ended(storage, ids)
    assert (first.progress.message, first.result) == ("half", "jobq-batch")
    assert second.progress.message is None
    assert ["child"] in calls or (await storage.counts())["default"][JobState.PENDING] == 1


@pytest.mark.parametrize("in_thread", [True, False])
async def test_a_job_of_a_batch_may_be_completed_in_a_transaction(storage: ManualClockStorage, in_thread: bool) -> None:
    @job(batch=2, wait=60)
    class Sync(Job[str]):
        to: str

        @classmethod
        def execute(cls, jobs: list[Sync], contexts: list[JobContext]) -> None:
            contexts[0].complete_in(object(), "in the transaction")
            raise LookupError("after the first job")

    @job(batch=2, wait=60)
    class Async(Job[str]):
        to: str

        @classmethod
        async def execute(cls, jobs: list[Async], contexts: list[JobContext]) -> None:
            await contexts[0].complete_in(object(), "in the transaction")
            raise LookupError("after the first job")

    kind = Sync if in_thread else Async
    ids = add(storage, kind("a"), kind("b"), max_attempts=1)
    async with working(storage, kind):
        first, second = await ended(storage, ids)
    assert (first.state, first.result) == (JobState.COMPLETED, "in the transaction")
    assert second.state is JobState.FAILED


async def test_middleware_runs_around_each_job(storage: ManualClockStorage) -> None:
    seen: list[Any] = []
    ids = add(storage, *map(Email, "abc"))
    worker = JobQueueWorker(storage, jobs=[Email], stop_timeout=0)

    @worker.middleware
    async def watch(each: Job[Any], context: JobContext) -> Any:
        result = yield
        seen.append((context.job_id, result))

    async with worker:
        await ended(storage, ids)
    assert seen == [(each, f"sent to {name}") for each, name in zip(ids, "abc", strict=True)]


async def test_a_handler_gets_its_resources_which_stay_open_until_it_has_ended(storage: ManualClockStorage) -> None:
    worker = JobQueueWorker(storage, jobs=[Saved], stop_timeout=0)

    @worker.provides(scope="run")
    async def connect() -> AsyncIterator[Connection]:
        try:
            yield Connection()
        finally:
            calls.append(["closed"])

    ids = add(storage, Saved(1), Saved(2))
    async with worker:
        await hold["started"].wait()
        await storage.abort(ids[:1])
        await worker.next_event(JobAborting)
        hold["go_on"].set()
        records = await ended(storage, ids)
    assert calls == [["Connection"], ["saved"], ["closed"], ["closed"]]
    assert [record.state for record in records] == [JobState.ABORTED, JobState.COMPLETED]


async def test_a_limiter_counts_the_jobs(storage: ManualClockStorage) -> None:
    ids = add(storage, *map(Soon, "abcd"))
    async with working(storage, Soon, limiter=ConcurrencyLimiter(2)):
        await ended(storage, ids)
    assert sorted(name for names in calls for name in names) == ["a", "b", "c", "d"]
    assert max(map(len, calls)) <= 2


# Stopping


async def test_the_abort_of_one_job_is_visible_to_the_handler(storage: ManualClockStorage) -> None:
    ids = add(storage, *map(Holding, "ab"))
    async with working(storage, Holding):
        await hold["started"].wait()
        await storage.abort([ids[0]])
        [aborted] = await ended(storage, ids[:1])
        assert aborted.state is JobState.ABORTED
        assert not hold["ended"].is_set()
        hold["go_on"].set()
        [other] = await ended(storage, ids[1:])
    assert (other.state, other.result, calls) == (JobState.COMPLETED, "False", [["True", "False"]])


async def test_a_job_that_is_aborted_while_it_gathers_leaves_the_batch(storage: ManualClockStorage) -> None:
    [first] = add(storage, Email("a"))
    worker = JobQueueWorker(storage, jobs=[Email], concurrency=1, stop_timeout=0)
    started = worker.next_event(JobStarted)
    async with worker:
        await started
        await storage.abort([first])
        assert (await ended(storage, [first]))[0].state is JobState.ABORTED
        await ended(storage, add(storage, *map(Email, "bcd")))
    assert calls == [["b", "c", "d"]]


async def test_the_abort_of_all_jobs_cancels_the_handler(storage: ManualClockStorage) -> None:
    ids = add(storage, *map(Holding, "ab"))
    async with working(storage, Holding):
        await hold["started"].wait()
        await storage.abort(ids)
        records = await ended(storage, ids)
        assert hold["ended"].is_set()
    assert [record.state for record in records] == [JobState.ABORTED] * 2


async def test_the_timeout_bounds_the_batch(storage: ManualClockStorage) -> None:
    ids = add(storage, *map(Late, "ab"))
    async with working(storage, Late):
        records = await ended(storage, ids)
    assert hold["ended"].is_set()
    assert [record.state for record in records] == [JobState.FAILED] * 2
    assert all("timeout" in str(record.error) for record in records)


async def test_a_batch_that_is_interrupted_hands_all_back(storage: ManualClockStorage) -> None:
    ids = add(storage, *map(Holding, "ab"))
    async with working(storage, Holding):
        await hold["started"].wait()
    assert hold["ended"].is_set()
    records = [await read(storage, each) for each in ids]
    assert [(record.state, record.attempt) for record in records] == [(JobState.PENDING, 0)] * 2


async def test_a_thread_that_ends_unaware_of_the_stop_completes_its_jobs(storage: ManualClockStorage) -> None:
    @job(batch=2, wait=60)
    class Unaware(Job[str]):
        to: str

        @classmethod
        def execute(cls, jobs: list[Unaware], contexts: list[JobContext]) -> list[str]:
            contexts[1]._stop.wait(20)  # `wait_aborted` would count as noticing it
            return [each.to for each in jobs]

    ids = add(storage, *map(Unaware, "ab"))
    worker = JobQueueWorker(storage, jobs=[Unaware], stop_timeout=0)
    started = worker.events(JobStarted)
    async with worker:
        assert [(await anext(started)).job_id for _ in ids] == ids
    assert [(await read(storage, each)).result for each in ids] == ["a", "b"]


async def test_a_worker_that_drains_starts_what_it_has_gathered(storage: ManualClockStorage) -> None:
    ids = add(storage, *map(Email, "ab"))
    worker = JobQueueWorker(storage, jobs=[Email], stop_timeout=20)
    started = worker.events(JobStarted)
    async with worker:
        assert [(await anext(started)).job_id for _ in ids] == ids
    assert calls == [["a", "b"]]
    assert [(await read(storage, each)).state for each in ids] == [JobState.COMPLETED] * 2


# In tests


async def test_a_drain_runs_batches(storage: ManualClockStorage) -> None:
    ids = add(storage, *map(Email, "abcd"), Soon("e"))
    assert (await drain(storage)).completed == 5
    assert calls == [["a", "b", "c"], ["d"], ["e"]]
    assert [(await read(storage, each)).result for each in ids[:2]] == ["sent to a", "sent to b"]


def test_a_drain_without_an_event_loop_runs_a_sync_batch_handler_in_this_thread(storage: ManualClockStorage) -> None:
    ids = add(storage, *map(InThread, "ab"), *map(Email, "cd"))
    assert drain_sync(storage).completed == 5
    assert calls == [["a", "b"], ["c", "d"], ["child"]]
    assert run_to_end(read(storage, ids[0])).result == threading.current_thread().name


async def test_a_drain_settles_each_job_for_itself(storage: ManualClockStorage) -> None:
    add(storage, *map(Flaky, ("good", "bad", "slow")))
    drained = await drain(storage, raises=False)
    assert (drained.completed, drained.failed, drained.retried) == (1, 1, 1)
    add(storage, *map(Late, "ab"))
    assert (await drain(storage, raises=False)).failed == 2


async def test_one_job_runs_inline_as_a_batch_of_its_own() -> None:
    assert await run_inline(Email("a")) == "sent to a"
    with pytest.raises(PermanentJobError, match="no such address"):
        await run_inline(Flaky("bad"))
    with pytest.raises(IndexError):
        run_inline_sync(InThread("a"))


# Declarations


async def test_a_worker_may_supply_the_handler(storage: ManualClockStorage) -> None:
    @job(batch=2, wait=60)
    class Contract(Job[int]):
        number: int

    worker = JobQueueWorker(storage, jobs=[], stop_timeout=0)

    @worker.handles(Contract)
    async def double(jobs: list[Contract]) -> list[int]:
        return [each.number * 2 for each in jobs]

    ids = add(storage, Contract(1), Contract(2))
    async with worker:
        assert [record.result for record in await ended(storage, ids)] == [2, 4]


def test_what_cannot_be_a_batch_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"batch=… is for a class"):

        @job(batch=2)
        def function(to: str) -> None: ...

    with pytest.raises(ConfigurationError, match="write @classmethod"):

        @job(batch=2)
        class Method(Job[None]):
            def execute(self) -> None: ...

    with pytest.raises(ConfigurationError, match=r"takes \(cls, jobs\)"):

        @job(batch=2)
        class Many(Job[None]):
            @classmethod
            def execute(cls, jobs: list[Many], contexts: list[JobContext], more: int) -> None: ...

    for options in ({"batch": 0}, {"batch": 1001}, {"batch": 2.0}, {"wait": 1}, {"batch": 2, "wait": 61}):
        with pytest.raises(ConfigurationError, match=r"batch|wait"):
            job(**options)
    with pytest.raises(ConfigurationError, match="not 'process'"):
        job(batch=2, executor="process")
