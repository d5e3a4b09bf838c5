"""Handlers and what is around them: the loop, other threads, context variables, cancellation."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import pytest

from jobq_core import JobAborted, JobCompleted, JobFailed, job
from jobq_core.ids import new_id
from jobq_core.states import Ending
from jobq_core.storage import ClaimedJob
from jobq_worker.executors.coroutines import CoroutineExecutor
from jobq_worker.running.handlers import Handler
from jobq_worker.running.outcomes import Raised
from jobq_worker.running.run import Run, Stop
from jobq_worker.settling.settlements import settlement_of

from .kit import Endings, Stage, add, add_many, ending, record, working
from .probe import Probe

flavour: contextvars.ContextVar[str] = contextvars.ContextVar("flavour", default="none")


async def test_a_synchronous_handler_never_blocks_the_loop(storage: Probe, stage: Stage) -> None:
    @job()
    def blocking() -> None:
        stage.reach("started")
        stage.wait("go on")

    @job()
    async def quick() -> str:
        return "meanwhile"

    async with working(storage, blocking, quick) as worker:
        endings = Endings(worker)
        slow = await add(storage, blocking())
        await stage.reached("started")
        assert isinstance(await endings.of(await add(storage, quick())), JobCompleted)
        stage.reach("go on")
        assert isinstance(await endings.of(slow), JobCompleted)


@pytest.mark.parametrize("nature", ["async", "thread"])
async def test_a_cpu_bound_handler_does_not_stop_the_heartbeat(storage: Probe, nature: str) -> None:
    def spin() -> int:
        wanted, gives_up = storage.beats + 3, time.monotonic() + 20
        while storage.beats < wanted and time.monotonic() < gives_up:
            pass
        return storage.beats

    @job(name="spin")
    async def in_loop() -> int:
        return spin()

    @job(name="spin")
    def in_thread() -> int:
        return spin()

    act = in_loop if nature == "async" else in_thread
    async with working(storage, act, heartbeat_interval=0.02, lost_after=20) as worker:
        event = await ending(worker, storage, act())
        assert isinstance(event, JobCompleted)
        assert int(event.result_json) >= 3


async def test_sync_handlers_run_side_by_side_in_as_many_threads_as_there_are_slots(storage: Probe) -> None:
    meeting = threading.Barrier(4)

    @job()
    def meet() -> int:
        meeting.wait(20)
        return threading.get_ident()

    async with working(storage, meet, concurrency=4) as worker:
        endings = Endings(worker)
        ids = await add_many(storage, [meet()] * 4)
        await endings.all(ids)
    threads = {(await record(storage, job_id)).result for job_id in ids}
    assert len(threads) == 4
    assert threading.get_ident() not in threads


async def test_each_run_has_context_variables_of_its_own(storage: Probe) -> None:
    @job()
    async def in_loop() -> str:
        before = flavour.get()
        flavour.set("sweet")
        return before

    @job()
    def in_thread() -> str:
        before = flavour.get()
        flavour.set("sour")
        return before

    flavour.set("plain")  # the worker's own, as it is started
    async with working(storage, in_loop, in_thread, concurrency=1) as worker:
        flavour.set("changed later")
        endings = Endings(worker)
        ids = await add_many(storage, [in_loop(), in_thread(), in_loop(), in_thread()])
        await endings.all(ids)
    assert [(await record(storage, job_id)).result for job_id in ids] == ["plain"] * 4


async def test_timeouts_and_task_groups_inside_a_handler_are_its_own(storage: Probe) -> None:
    @job()
    async def patient() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            pass
        results = []

        async def part(n: int) -> None:
            await asyncio.sleep(0)
            results.append(n)

        async with asyncio.TaskGroup() as group:
            group.create_task(part(1))
            group.create_task(part(2))
        return f"{sorted(results)} in {asyncio.current_task() is not None}"

    async with working(storage, patient, concurrency=1) as worker:
        event = await ending(worker, storage, patient())
    assert isinstance(event, JobCompleted)
    assert event.result_json == b'"[1, 2] in True"'


async def test_aborting_one_job_leaves_the_others_alone(storage: Probe, stage: Stage) -> None:
    @job()
    async def hang(n: int) -> int:
        stage.reach(f"started {n}")
        await stage.reached(f"go on {n}")
        return n

    async with working(storage, hang) as worker:
        endings = Endings(worker)
        first, second = await add_many(storage, [hang(n=1), hang(n=2)])
        await stage.reached("started 1")
        await stage.reached("started 2")
        await storage.abort([first])
        assert isinstance(await endings.of(first), JobAborted)
        stage.reach("go on 2")
        assert isinstance(await endings.of(second), JobCompleted)


async def test_a_handler_that_cancels_itself_has_failed(storage: Probe) -> None:
    @job(max_attempts=1)
    async def suicidal() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with working(storage, suicidal) as worker:
        event = await ending(worker, storage, suicidal())
    assert isinstance(event, JobFailed)
    assert event.error is not None
    assert event.error.type == "asyncio.exceptions.CancelledError"
    assert event.error.message == "the handler was cancelled, but not by its worker"


async def test_a_run_that_is_stopped_before_its_first_step_has_an_end_too() -> None:
    @job()
    async def never() -> None:
        raise AssertionError("it ran")

    ended: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
    executor = CoroutineExecutor(ended.set_result)
    run = Run(ClaimedJob(new_id(), 1, "default", "never", b"{}", 1, 10), 0.0)
    run.handler = Handler(  # type: ignore[arg-type]
        never.definition, never.definition.handler, executor, never.definition.decode_arguments
    )
    executor.start(run)
    run.stop = Stop.ABORT
    executor.stop(run)
    assert await ended is run
    assert isinstance(run.outcome, Raised)
    settlement = settlement_of(run, run.outcome)
    assert settlement is not None
    assert settlement.ending is Ending.ABORT


async def test_a_thread_that_ignores_its_stop_does_not_keep_the_worker(storage: Probe, stage: Stage) -> None:
    @job()
    def deaf() -> None:
        stage.notes.append(threading.current_thread())
        stage.reach("started")
        stage.wait("go on")

    async with working(storage, deaf) as worker:
        job_id = await add(storage, deaf())
        await stage.reached("started")
        await worker.stop(0)
        assert (await record(storage, job_id)).attempt == 1, "it is not handed back while it runs"
        [thread] = stage.notes
        assert thread.daemon
    stage.reach("go on")
    thread.join(20)
    assert not thread.is_alive()
