"""What operators ask of a worker from afar: to drain, and where its handlers are."""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from jobq_core import Job, JobCompleted, JobState, Secret, job
from jobq_core.errors import ConfigurationError
from jobq_core.ids import new_id
from jobq_core.storage import WorkerAction, WorkerRequest
from jobq_worker import JobQueueWorker, Retired
from jobq_worker.executors import process_thread
from jobq_worker.executors.handler_process import HandlerProcess
from jobq_worker.requests import worker_requests
from jobq_worker.requests.answers import shorten
from jobq_worker.stacks import all_tasks, task_stack

from .kit import Endings, Stage, add, ending, record, until, working
from .probe import Probe

HERE = Path(__file__).parent
NOW = datetime(2026, 1, 5, tzinfo=UTC)


async def ask(storage: Probe, worker: JobQueueWorker, action: WorkerAction, job_id: UUID | None = None) -> UUID:
    """Ask a worker; return the id of the request."""
    assert worker.id is not None
    request = WorkerRequest(id=new_id(), worker=worker.id, action=action, job=job_id, actor="kai@web1", asked_at=NOW)
    assert await storage.ask_worker(request)
    return request.id


async def answer_of(storage: Probe, request: UUID) -> str:
    """Wait for the answer to a request."""
    while True:
        [found] = await storage.get_requests([request])
        assert found is not None
        if found.answer is not None:
            return found.answer
        await asyncio.sleep(0.001)


async def stack_of(storage: Probe, worker: JobQueueWorker, job_id: UUID | None) -> str:
    return await answer_of(storage, await ask(storage, worker, WorkerAction.STACK, job_id))


# Draining


async def test_a_worker_that_is_asked_to_drain_finishes_its_jobs_and_ends(storage: Probe, stage: Stage) -> None:
    @job()
    async def hold() -> str:
        stage.reach("started")
        await released.wait()
        return "done"

    released = asyncio.Event()
    worker = JobQueueWorker(storage, jobs=[hold])
    running = asyncio.create_task(worker.run())
    job_id = await add(storage, hold())
    await stage.reached("started")
    request = await ask(storage, worker, WorkerAction.DRAIN)
    assert await answer_of(storage, request) == "the worker drains: 1 running jobs have up to 30 s"
    await until(lambda: worker.health().state == "stopping")
    late = await add(storage, hold())
    released.set()
    await running
    assert worker.retired is Retired.DRAINED
    assert (await record(storage, job_id)).state is JobState.COMPLETED
    assert (await record(storage, late)).state is JobState.PENDING
    assert await storage.workers() == []


async def test_a_worker_that_was_drained_can_be_started_again(storage: Probe) -> None:
    @job()
    async def quick() -> None: ...

    worker = JobQueueWorker(storage, jobs=[quick])
    await worker.start()
    await ask(storage, worker, WorkerAction.DRAIN)
    await until(lambda: worker.health().state == "stopped")
    await worker.start()
    assert worker.retired is None
    assert isinstance(await ending(worker, storage, quick()), JobCompleted)
    await worker.stop(0)


# Stacks


async def inner_wait(gate: asyncio.Event) -> None:
    await gate.wait()


def block_in_thread(stage: Stage, secret: Secret[str]) -> None:
    token = secret.reveal()
    stage.reach("started")
    stage.wait("released")
    assert token


async def test_the_stack_of_a_coroutine_shows_what_it_awaits_and_no_values(storage: Probe, stage: Stage) -> None:
    @job()
    async def hold(secret: Secret[str]) -> None:
        token = secret.reveal()
        stage.reach("started")
        await inner_wait(asyncio.Event())
        assert token

    async with working(storage, hold) as worker:
        job_id = await add(storage, hold(Secret("hunter2")))
        await stage.reached("started")
        stack = await stack_of(storage, worker, job_id)
    first, *lines = stack.splitlines()
    assert first.startswith(f"job {job_id} (hold), attempt 1, runs for ")
    assert first.endswith("executor 'async'")
    places = [line.split(", in ")[1] for line in lines if ", in " in line]
    assert places[-3:] == ["hold", "inner_wait", "wait"]
    assert "await inner_wait(asyncio.Event())" in stack
    assert "hunter2" not in stack


async def test_the_stack_of_a_thread_is_that_of_its_job(storage: Probe, stage: Stage) -> None:
    @job()
    def hold(secret: Secret[str]) -> None:
        block_in_thread(stage, secret)

    @job()
    def other() -> None:
        stage.wait("released")

    async with working(storage, hold, other) as worker:
        endings = Endings(worker)
        job_ids = [await add(storage, other()), await add(storage, hold(Secret("hunter2")))]
        await stage.reached("started")
        stack = await stack_of(storage, worker, job_ids[1])
        stage.reach("released")
        await endings.all(job_ids)
    assert ", in block_in_thread\n" in stack
    assert ", in other\n" not in stack
    assert "hunter2" not in stack


async def test_the_stack_of_a_handler_process_comes_from_there(
    storage: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(HERE)
    import process_jobs

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with working(storage, process_jobs.wait_for, process_jobs.sleep_async) as worker:
        endings = Endings(worker)
        function = await add(storage, process_jobs.wait_for(str(pipe)))
        held = await asyncio.to_thread(pipe.open, "w")
        stack = await stack_of(storage, worker, function)
        assert "executor 'process'" in stack
        assert ", in wait_for\n" in stack
        with monkeypatch.context() as patched:
            patched.setattr(process_thread, "STACK_SECONDS", 0.01)
            patched.setattr(HandlerProcess, "send", lambda *_: None)
            assert "did not answer within 0.01 s" in await stack_of(storage, worker, function)
        held.close()
        await endings.of(function)
        coroutine = await add(storage, process_jobs.sleep_async(str(pipe)))
        held = await asyncio.to_thread(pipe.open)
        await asyncio.to_thread(held.readline)
        assert ", in sleep_async\n" in await stack_of(storage, worker, coroutine)
        held.close()


@job(batch=1)
class Batched(Job[None]):
    @staticmethod
    async def execute(jobs: list[Batched]) -> None:
        gates["started"].set()
        await inner_wait(gates["released"])


@job(batch=1)
class BatchedInThread(Job[None]):
    @staticmethod
    def execute(jobs: list[BatchedInThread]) -> None:
        block_in_thread(stages[0], Secret("x"))


gates: dict[str, asyncio.Event] = {}
stages: list[Stage] = []


async def test_the_stack_of_a_job_in_a_batch_shows_the_handler_of_the_batch(storage: Probe, stage: Stage) -> None:
    gates.update(started=asyncio.Event(), released=asyncio.Event())
    stages[:] = [stage]
    async with working(storage, Batched, BatchedInThread) as worker:
        endings = Endings(worker)
        job_ids = [await add(storage, Batched()), await add(storage, BatchedInThread())]
        await gates["started"].wait()
        await stage.reached("started")
        coroutine, function = [await stack_of(storage, worker, job_id) for job_id in job_ids]
        gates["released"].set()
        stage.reach("released")
        await endings.all(job_ids)
    assert ", in inner_wait\n" in coroutine.partition("its batch:\n")[2]
    assert ", in block_in_thread\n" in function.partition("its batch:\n")[2]


async def test_without_a_job_the_worker_shows_all_that_runs(storage: Probe, stage: Stage) -> None:
    @job()
    async def hold() -> None:
        stage.reach("started")
        await inner_wait(asyncio.Event())

    async with working(storage, hold) as worker:
        job_id = await add(storage, hold())
        await stage.reached("started")
        stack = await stack_of(storage, worker, None)
    assert f"job {job_id} (hold)" in stack
    assert "\nthread MainThread\n" in stack
    assert "\nthread jobq-heartbeat\n" in stack
    assert "\ntask jobq fetcher\n" in stack


async def test_a_job_that_the_worker_does_not_run_has_no_stack(storage: Probe, stage: Stage) -> None:
    @job()
    async def hold(n: int) -> None:
        stage.reach("started")
        await asyncio.Event().wait()

    async with working(storage, hold, concurrency=1) as worker:
        await add(storage, hold(0))
        await stage.reached("started")
        unknown = new_id()
        assert await stack_of(storage, worker, unknown) == (
            f"job {unknown} does not run in this worker: it has ended, or another worker has it\n"
        )


async def test_a_blocked_event_loop_shows_its_stack_and_drains_when_it_answers(storage: Probe, stage: Stage) -> None:
    @job()
    async def block() -> None:
        stage.reach("started")
        await asked.wait()
        block_the_loop()

    def block_the_loop() -> None:
        for _ in range(2):
            assert storage.heart_answers.acquire(timeout=30)

    asked = asyncio.Event()
    async with working(storage, block, lost_after=2.0, heartbeat_interval=0.1) as worker:
        job_id = await add(storage, block())
        await stage.reached("started")
        asked.set()
        drain = await ask(storage, worker, WorkerAction.DRAIN)
        stack = await ask(storage, worker, WorkerAction.STACK, job_id)
        answer = await answer_of(storage, stack)
        accepted = await answer_of(storage, drain)
        await until(lambda: worker.health().state == "stopped")
        assert worker.retired is Retired.DRAINED
    assert answer.startswith("the event loop has been blocked for ")
    assert ", in block_the_loop\n" in answer
    assert accepted.startswith("the event loop has been blocked for ")
    assert accepted.endswith(": the worker claims no jobs, and drains as soon as the event loop answers")


# Looking for requests


async def test_without_notifications_requests_are_found_with_a_heartbeat(storage: Probe) -> None:
    @job()
    async def quick() -> None: ...

    storage.silent = True
    async with working(storage, quick, heartbeat_interval=0.02) as worker:
        assert "thread MainThread" in await stack_of(storage, worker, None)


async def test_many_notifications_cost_few_looks(storage: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    @job()
    async def quick() -> None: ...

    monkeypatch.setattr(worker_requests, "GAP_SECONDS", 1000.0)
    async with working(storage, quick) as worker:
        await until(lambda: storage.calls["worker_requests"])
        for _ in range(20):
            await ask(storage, worker, WorkerAction.STACK)
        assert isinstance(await ending(worker, storage, quick()), JobCompleted)
        assert storage.calls["worker_requests"] == 1


async def test_an_answer_that_could_not_be_stored_is_made_again(storage: Probe) -> None:
    @job()
    async def quick() -> None: ...

    async with working(storage, quick) as worker:
        storage.fail("answer_request", 2)
        assert "thread MainThread" in await stack_of(storage, worker, None)
        await until(lambda: not worker.health().storage_failing)


async def test_a_storage_that_passes_no_requests_is_asked_once(storage: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(worker: UUID) -> list[WorkerRequest]:
        asked.append(worker)
        raise ConfigurationError("this storage passes no requests to workers")

    asked: list[UUID] = []

    @job()
    async def quick() -> None: ...

    monkeypatch.setattr(storage, "worker_requests", refuse)
    async with working(storage, quick, heartbeat_interval=0.01) as worker:
        await until(lambda: storage.beats >= 3)
        assert isinstance(await ending(worker, storage, quick()), JobCompleted)
        assert not worker.health().storage_failing
    assert len(asked) == 1


# Texts


def test_a_long_answer_says_how_much_is_left_out() -> None:
    text = "é" * 1000
    found = shorten(text, 500)
    assert len(found.encode()) <= 500
    assert found.endswith(" more bytes are left out\n")
    assert shorten("short", 500) == "short"


async def test_the_stack_of_a_task_that_runs_is_that_of_its_thread() -> None:
    task = asyncio.current_task()
    assert task is not None
    assert "task_stack(task, threading.get_ident())" in task_stack(task, threading.get_ident())
    assert [name for name, _ in all_tasks(asyncio.get_running_loop(), 0)].count(task.get_name()) == 1


async def test_the_stack_of_a_task_that_has_ended_says_so() -> None:
    task = asyncio.ensure_future(asyncio.sleep(0))
    await task
    assert task_stack(task, threading.get_ident()) == "  (the task has ended)\n"
