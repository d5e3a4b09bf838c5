from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from jobq_core import ConfigurationError, Job, JobCompleted, JobContext, job
from jobq_worker import JobQueueWorker

from .kit import ending, record, working
from .probe import Probe


@job(queue="images")
class Thumbnail(Job[str]):
    path: str
    width: int = 256


@job()
class Greet(Job[str]):
    name: str

    def execute(self, context: JobContext) -> str:
        return f"hello {self.name}, attempt {context.attempt}"


@job()
async def plain(n: int) -> int:
    return n


async def test_a_class_with_execute_runs(storage: Probe) -> None:
    async with working(storage, Greet) as worker:
        event = await ending(worker, storage, Greet(name="Ada"))
    assert (await record(storage, event.job_id)).result == "hello Ada, attempt 1"


@pytest.mark.parametrize("shape", ["async", "async with context", "thread", "thread with context"])
async def test_a_worker_supplies_the_handler_of_a_bare_contract(storage: Probe, shape: str) -> None:
    worker = JobQueueWorker(storage, jobs=[Thumbnail], queues=["images"])

    async def in_loop(job: Thumbnail) -> str:
        return f"{job.path}@{job.width}"

    async def in_loop_with_context(job: Thumbnail, context: JobContext) -> str:
        return f"{job.path}@{job.width} in {context.queue}"

    def in_thread(job: Thumbnail) -> str:
        return f"{job.path}@{job.width}"

    def in_thread_with_context(job: Thumbnail, context: JobContext) -> str:
        return f"{job.path}@{job.width} in {context.queue}"

    bodies: dict[str, Any] = {
        "async": in_loop,
        "async with context": in_loop_with_context,
        "thread": in_thread,
        "thread with context": in_thread_with_context,
    }
    assert worker.handles(Thumbnail)(bodies[shape]) is bodies[shape]
    async with worker:
        event = await ending(worker, storage, Thumbnail("a.png"), queue="images")
        assert isinstance(event, JobCompleted)
    wanted = "a.png@256 in images" if "context" in shape else "a.png@256"
    assert (await record(storage, event.job_id)).result == wanted


async def test_a_handler_is_enough_to_make_a_kind_known(storage: Probe) -> None:
    worker = JobQueueWorker(storage)
    worker.handles(Thumbnail)(lambda job: job.path)
    async with worker:
        assert isinstance(await ending(worker, storage, Thumbnail("b.png"), queue="images"), JobCompleted)


def test_a_worker_serves_the_queues_that_its_jobs_declare(storage: Probe) -> None:
    assert JobQueueWorker(storage, jobs=[plain, Thumbnail, Greet]).queues == ("default", "images")
    assert JobQueueWorker(storage, jobs=[Thumbnail]).queues == ("images",)
    assert JobQueueWorker(storage).queues == ("default",)
    assert JobQueueWorker(storage, jobs=[plain, Thumbnail], queues=["mail"]).queues == ("mail",)


def test_a_handler_brings_the_queue_of_its_kind(storage: Probe) -> None:
    worker = JobQueueWorker(storage)
    worker.handles(Thumbnail)(lambda job: job.path)
    assert worker.queues == ("images",)


def test_a_kind_that_has_a_handler_takes_no_other(storage: Probe) -> None:
    with pytest.raises(ConfigurationError, match="'Greet' is declared with a handler"):
        JobQueueWorker(storage).handles(Greet)(lambda job: None)


def test_a_kind_takes_one_handler(storage: Probe) -> None:
    worker = JobQueueWorker(storage)
    worker.handles(Thumbnail)(lambda job: None)
    with pytest.raises(ConfigurationError, match="'Thumbnail' has a handler already"):
        worker.handles(Thumbnail)(lambda job: None)


def test_a_handler_of_other_parameters_is_refused(storage: Probe) -> None:
    with pytest.raises(ConfigurationError, match=r"must take \(job\) or \(job, context\), not 0 arguments"):
        JobQueueWorker(storage).handles(Thumbnail)(lambda: None)


async def test_handlers_are_supplied_before_the_start(storage: Probe) -> None:
    async with working(storage, plain) as worker:
        with pytest.raises(ConfigurationError, match="before the worker starts"):
            worker.handles(Thumbnail)(lambda job: None)


async def test_a_worker_without_anything_to_run_does_not_start(storage: Probe) -> None:
    with pytest.raises(ConfigurationError, match="has no job to run"):
        await JobQueueWorker(storage).start()
    with pytest.raises(ConfigurationError, match=r"'Thumbnail' needs @worker.handles"):
        await JobQueueWorker(storage, jobs=[Thumbnail]).start()


@pytest.mark.parametrize(
    ("executor", "body", "message"),
    [
        ("process", "sync", "declare it at the top level of that module"),
        ("process", "async", "declare it at the top level of that module"),
        ("thread", "async", "is a coroutine function and cannot run with executor='thread'; use 'async'"),
        ("async", "sync", "is not a coroutine function and cannot run with executor='async'; use 'thread'"),
    ],
)
async def test_an_executor_that_cannot_run_a_job_is_refused_at_the_start(
    storage: Probe, executor: str, body: str, message: str
) -> None:
    @job(executor=executor)
    def sync() -> None: ...

    @job(executor=executor)
    async def coroutine() -> None: ...

    worker = JobQueueWorker(storage, jobs=[sync if body == "sync" else coroutine])
    with pytest.raises(ConfigurationError) as caught:
        await worker.start()
    assert message in str(caught.value)
    assert worker.health().state == "new"
    assert await storage.workers() == []


async def test_jobs_are_taken_from_a_module(storage: Probe) -> None:
    async with working(storage, sys.modules[__name__], name="modular") as worker:
        [registered] = await storage.workers()
        assert set(registered.info.kinds) == {"Greet", "plain"}  # and not the bare contract
        assert isinstance(await ending(worker, storage, plain(n=1)), JobCompleted)


def test_two_jobs_of_one_name_are_refused(storage: Probe) -> None:
    other = types.ModuleType("other")

    @job(name="plain")
    async def another() -> None: ...

    other.another = another  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="two jobs are called 'plain'"):
        JobQueueWorker(storage, jobs=[plain, other])
