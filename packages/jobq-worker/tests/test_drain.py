"""`jobq_core.testing.drain`: due jobs run one at a time in the test's own process, and are settled as by a worker."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import pytest

from jobq_core import (
    Backoff,
    ClosedError,
    ConfigurationError,
    Job,
    JobContext,
    JobState,
    JobTimeoutError,
    PermanentJobError,
    RetryPolicy,
    Snooze,
    UnfitArgumentsError,
    job,
    provided,
)
from jobq_core.adding import new_job
from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.storage import QueueOptions
from jobq_core.testing import Drained, ManualClockStorage, drain, drain_sync, read, run_inline_sync, state_of
from jobq_core.testing import new_job as raw_job
from jobq_core.testing.without_loop import run_to_end
from jobq_worker import JobQueueWorker

ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@pytest.fixture
def storage() -> Any:
    with ManualClockStorage() as storage:
        yield storage


def add(storage: MemoryQueueStorage, added: Job[Any], **options: Any) -> UUID:
    [one] = run_to_end(storage.add([new_job(new_id(), added, "default", options)]))  # type: ignore[arg-type]
    return one.id


@job(name="drain_send", queue="mail")
async def send(to: str) -> str:
    ran.append(to)
    return f"sent to {to}"


@job(name="drain_resize")
def resize(width: int) -> int:
    ran.append((width, threading.current_thread()))
    return width * 2


@job(name="drain_parent")
def parent(context: JobContext, depth: int) -> None:
    ran.append(depth)
    context.progress(50, "half")
    if depth:
        context.add(parent(depth - 1))


@job(name="drain_flaky", retry=RetryPolicy(backoff=Backoff(base=60, factor=1, jitter=False)), max_attempts=3)
async def flaky(context: JobContext, fails: int) -> int:
    ran.append(context.attempt)
    if context.attempt <= fails:
        raise LookupError(f"attempt {context.attempt}")
    return context.attempt


@job(name="drain_slow", timeout=0.01, max_attempts=1)
async def slow() -> None:
    await asyncio.Event().wait()


@job(name="drain_forever")
def forever(context: JobContext) -> None:
    context.add(forever())


async def test_due_jobs_run_in_order_and_are_completed(storage: ManualClockStorage) -> None:
    ids = [add(storage, send(to)) for to in ("ann", "bob", "eve")]
    drained = await drain(storage)
    assert ran == ["ann", "bob", "eve"]
    assert [run.job_id for run in drained.runs] == ids
    assert (len(drained), drained.completed, drained.failed, drained.kinds) == (3, 3, 0, ["drain_send"] * 3)
    assert (await read(storage, ids[0])).result == "sent to ann"
    assert await drain(storage) == Drained()
    assert await storage.workers() == []


async def test_queues_take_turns_and_a_paused_one_is_left_alone(storage: ManualClockStorage) -> None:
    for name in ("a", "b", "a", "b"):
        add(storage, send(name), queue=name)
    add(storage, send("c"), queue="c")
    await storage.set_queue("c", QueueOptions(paused=True), "operator")
    await drain(storage)
    assert ran == ["a", "b", "a", "b"]


async def test_only_the_given_queues_are_drained(storage: ManualClockStorage) -> None:
    add(storage, send("ann"))
    add(storage, resize(4))
    assert (await drain(storage, queues=["mail"])).kinds == ["drain_send"]


async def test_sync_handlers_run_in_a_thread_as_in_a_worker(storage: ManualClockStorage) -> None:
    add(storage, resize(4))
    await drain(storage)
    [(width, thread)] = ran
    assert width == 4
    assert thread is not threading.current_thread()


def test_without_an_event_loop_sync_handlers_run_in_the_tests_own_thread(storage: ManualClockStorage) -> None:
    add(storage, resize(4))
    add(storage, send("ann"))
    add(storage, send("bob"))
    assert drain_sync(storage).completed == 3
    assert ("ann" in ran, "bob" in ran, (4, threading.current_thread()) in ran) == (True, True, True)


@pytest.mark.parametrize("sync", [True, False])
def test_the_jobs_that_jobs_add_run_too(storage: ManualClockStorage, sync: bool) -> None:
    job_id = add(storage, parent(depth=2))
    drained = drain_sync(storage) if sync else asyncio.run(drain(storage))
    assert ran == [2, 1, 0]
    assert drained.completed == 3
    assert run_to_end(read(storage, job_id)).progress.message == "half"


async def test_handlers_of_processes_run_in_the_tests_own(storage: ManualClockStorage) -> None:
    @job(executor="process")
    async def far() -> None:
        ran.append("far")

    add(storage, far())
    await drain(storage)
    assert ran == ["far"]


async def test_a_failure_is_raised_once_nothing_is_due(storage: ManualClockStorage) -> None:
    job_id = add(storage, flaky(fails=1))
    add(storage, send("ann"))
    with pytest.raises(LookupError, match="attempt 1") as caught:
        await drain(storage)
    assert caught.value.__notes__ == [f"raised by job drain_flaky ({job_id}), attempt 1, now SCHEDULED"]
    assert ran == [1, "ann"]


async def test_a_retry_runs_when_the_clock_is_advanced(storage: ManualClockStorage) -> None:
    job_id = add(storage, flaky(fails=1))
    drained = await drain(storage, raises=False)
    assert (drained.retried, drained.failed, [str(error) for error in drained.errors]) == (1, 0, ["attempt 1"])
    storage.clock.advance(59)
    assert len(await drain(storage)) == 0
    storage.clock.advance(1)
    assert (await drain(storage)).completed == 1
    assert (await read(storage, job_id)).result == 2


async def test_the_drain_may_advance_the_clock_itself(storage: ManualClockStorage) -> None:
    began = storage.clock.now()
    add(storage, flaky(fails=9))
    add(storage, send("ann"), delay=86_400)
    drained = await drain(storage, advance=True, raises=False)
    assert [run.state for run in drained.runs] == [
        JobState.SCHEDULED,
        JobState.SCHEDULED,
        JobState.FAILED,
        JobState.COMPLETED,
    ]
    assert 86_400 <= (storage.clock.now() - began).total_seconds() < 86_401


async def test_a_clock_that_the_test_cannot_move_is_not_advanced() -> None:
    async with MemoryQueueStorage() as storage:
        add(storage, send("ann"), delay=60)
        assert len(await drain(storage)) == 0
        with pytest.raises(ConfigurationError, match="ManualClockStorage"):
            await drain(storage, advance=True)


async def test_a_snooze_and_an_abort_are_not_failures(storage: ManualClockStorage) -> None:
    @job()
    def snoozing(context: JobContext) -> None:
        if not ran:
            ran.append(context.attempt)
            raise Snooze(60)

    @job()
    def aborting(context: JobContext) -> None:
        context.request_stop()
        context.check_aborted()

    add(storage, snoozing())
    add(storage, aborting())
    drained = await drain(storage)
    assert sorted(run.state for run in drained.runs) == sorted([JobState.SCHEDULED, JobState.ABORTED])
    assert (drained.retried, drained.aborted, drained.errors) == (0, 1, [])


async def test_a_deadline_ends_a_waiting_job_unrun(storage: ManualClockStorage) -> None:
    job_id = add(storage, send("ann"), deadline=60)
    storage.clock.advance(61)
    assert len(await drain(storage)) == 0
    assert await state_of(storage, job_id) is JobState.FAILED


@pytest.mark.parametrize("sync", [True, False])
def test_an_async_handler_is_stopped_at_its_timeout(storage: ManualClockStorage, sync: bool) -> None:
    add(storage, slow())
    with pytest.raises(JobTimeoutError, match="longer than its timeout"):
        drain_sync(storage) if sync else asyncio.run(drain(storage))


async def test_a_cancelled_drain_cancels_the_handler() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    @job()
    async def waiting() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with ManualClockStorage() as storage:
        job_id = add(storage, waiting())
        draining = asyncio.create_task(drain(storage))
        await started.wait()
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        assert cancelled.is_set()
        assert await state_of(storage, job_id) is JobState.PENDING


async def test_jobs_that_the_given_ones_do_not_include_are_blocked_until_they_are(storage: ManualClockStorage) -> None:
    add(storage, send("ann"))
    job_id = add(storage, resize(4))
    drained = await drain(storage, jobs=[send])
    assert (drained.completed, drained.kinds) == (1, ["drain_resize", "drain_send"])
    assert await state_of(storage, job_id) is JobState.BLOCKED
    assert (await drain(storage, jobs=[resize])).completed == 1


async def test_the_handlers_of_a_worker_can_be_used(storage: ManualClockStorage) -> None:
    @job(name="drain_contract")
    class Contract(Job[int]):
        number: int

    worker = JobQueueWorker("memory://", jobs=[send])

    @worker.handles(Contract)
    def double(job: Contract) -> int:
        return job.number * 2

    job_id = add(storage, Contract(number=4))
    with pytest.raises(ConfigurationError, match="'drain_contract' is due and cannot run: it has no `execute`"):
        await drain(storage)
    assert (await drain(storage, worker=worker)).completed == 1
    assert (await read(storage, job_id)).result == 8
    with pytest.raises(ConfigurationError, match="jobs or worker"):
        await drain(storage, worker=worker, jobs=[send])


async def test_a_kind_that_nothing_declares_is_named(storage: ManualClockStorage) -> None:
    [added] = await storage.add([raw_job(kind="nobody's")])
    with pytest.raises(ConfigurationError, match=r"nobody's.* is declared in no module that was imported"):
        await drain(storage)
    assert await state_of(storage, added.id) is JobState.PENDING


async def test_a_kind_that_two_declare_is_named(storage: ManualClockStorage) -> None:
    first, second = (job(name="drain_twin")(lambda_) for lambda_ in (_twin(), _twin()))
    add(storage, first())
    with pytest.raises(ConfigurationError, match="2 jobs are called 'drain_twin'"):
        await drain(storage)
    assert (await drain(storage, jobs=[second])).completed == 1


def _twin() -> Any:
    def twin() -> None: ...

    return twin


async def test_arguments_that_do_not_fit_are_a_failure(storage: ManualClockStorage) -> None:
    await storage.add([raw_job(kind="drain_send", arguments=b'{"from":"ann"}')])
    with pytest.raises(UnfitArgumentsError):
        await drain(storage)


async def test_an_error_for_good_fails_the_job(storage: ManualClockStorage) -> None:
    @job()
    def refuses() -> None:
        raise PermanentJobError("no")

    add(storage, refuses())
    assert (await drain(storage, raises=False)).failed == 1


async def test_a_failure_is_followed_by_the_job_that_its_kind_declares(storage: ManualClockStorage) -> None:
    @job(name="drain_charge", on_failure=send)
    def charge(to: str) -> None:
        raise PermanentJobError("no")

    add(storage, charge("ann"))
    add(storage, charge("bob"), deadline=60, delay=600)
    storage.clock.advance(61)
    drained = await drain(storage, raises=False)
    assert (drained.failed, sorted(ran)) == (1, ["ann", "bob"])


async def test_a_job_that_adds_itself_without_an_end_is_named(storage: ManualClockStorage) -> None:
    add(storage, forever())
    with pytest.raises(AssertionError, match="still due after 20 runs, such as drain_forever"):
        await drain(storage, max_runs=20)


async def test_a_drain_within_a_handler_runs_what_is_due(storage: ManualClockStorage) -> None:
    @job()
    async def outer() -> None:
        add(storage, send("inner"))
        await drain(storage, jobs=[send])
        ran.append("outer")

    add(storage, outer())
    await drain(storage)
    assert ran == ["inner", "outer"]


async def test_without_the_worker_the_distribution_is_named(
    storage: ManualClockStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jobq_worker.inline_worker", None)
    with pytest.raises(ConfigurationError, match="pip install jobq-worker"):
        await drain(storage)


class Pool:
    """A resource, which shows whether it is open."""

    def __init__(self) -> None:
        self.steps: list[str] = []


def make_worker(pool: Pool) -> JobQueueWorker:
    @job(name="drain_charge")
    async def charge(order_id: int, *, db: Pool = provided()) -> None:
        db.steps.append(f"charge {order_id}")

    @job(name="drain_refund")
    def refund(order_id: int, *, db: Pool = provided()) -> None:
        db.steps.append(f"refund {order_id}")

    worker = JobQueueWorker("memory://", jobs=[charge, refund])

    @worker.provides
    async def the_pool() -> AsyncIterator[Pool]:
        pool.steps.append("open")
        yield pool
        pool.steps.append("closed")

    @worker.middleware
    def steps(each: Job[Any], context: JobContext) -> Iterator[None]:
        pool.steps.append(f"before {context.kind}")
        yield

    return worker


@pytest.mark.parametrize("sync", [True, False])
def test_a_drain_by_a_worker_opens_its_resources_and_runs_its_middleware(
    storage: ManualClockStorage, sync: bool
) -> None:
    pool = Pool()
    worker = make_worker(pool)
    kinds = {definition.kind: definition.job_type for definition in worker.handlers.definitions()}
    add(storage, kinds["drain_charge"](7))
    add(storage, kinds["drain_refund"](8))
    drained = drain_sync(storage, worker=worker) if sync else asyncio.run(drain(storage, worker=worker))
    assert drained.completed == 2
    assert pool.steps == [
        "open",
        "before drain_charge",
        "charge 7",
        "before drain_refund",
        "refund 8",
        "closed",
    ]


def test_a_resource_that_only_a_worker_has_is_named(storage: ManualClockStorage) -> None:
    @job(name="drain_needy")
    def needy(*, db: Pool = provided()) -> None: ...

    job_id = add(storage, needy())
    with pytest.raises(ConfigurationError, match=r"drain_needy.*Pool"):
        drain_sync(storage)
    assert run_to_end(state_of(storage, job_id)) is JobState.PENDING
    pool = Pool()
    assert run_inline_sync(needy(), db=pool) is None
    with pytest.raises(ConfigurationError, match="the handler of drain_needy needs db"):
        run_inline_sync(needy())
    with pytest.raises(ConfigurationError, match="takes no pool"):
        run_inline_sync(needy(), db=pool, pool=pool)


@job(name="drain_complete_in")
async def complete_in(context: JobContext, fails: bool) -> str:
    child = context.add(send("a"))
    await context.complete_in(object(), "in the transaction")
    with pytest.raises(ClosedError, match="has completed it"):
        context.add(send("b"))
    ran.append(child)
    if fails:
        raise ValueError("after the commit")
    return "not this"


@job(name="drain_complete_in_thread")
def complete_in_thread(context: JobContext) -> str:
    context.complete_in(object(), "in the transaction")
    return "not this"


@pytest.mark.parametrize("completing", [complete_in(fails=False), complete_in(fails=True), complete_in_thread()])
def test_a_handler_that_completes_in_a_transaction_is_completed_with_that_result(
    storage: ManualClockStorage, completing: Job[str]
) -> None:
    job_id = add(storage, completing)
    drained = drain_sync(storage, queues=["default"], raises=False)
    assert [run.state for run in drained.runs] == [JobState.COMPLETED]
    assert run_to_end(read(storage, job_id)).result_json == b'"in the transaction"'


async def test_a_context_of_a_test_completes_nothing() -> None:
    context = JobContext()
    await context.complete_in(object(), 7)
    context.complete_in(object(), 7)
