"""Nothing that a user passes in stops a worker, and a task of a worker that ends all the same is not missed."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from jobq_core import JobCompleted, JobFailed, JobStarted, RetryPolicy, job
from jobq_worker import JobQueueWorker
from jobq_worker.running import pipeline

from .kit import Stage, ending, working
from .probe import Probe

ERRORS = [asyncio.CancelledError, SystemExit, GeneratorExit]


@job()
async def quick() -> int:
    return 1


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("event", [JobStarted, JobCompleted])
async def test_a_listener_that_raises_anything_stops_nothing(
    storage: Probe, error: type[BaseException], event: type[JobStarted]
) -> None:
    def fail(_: object) -> None:
        raise error

    async with working(storage, quick) as worker:
        worker.on(event, fail)
        for _ in range(2):
            assert isinstance(await ending(worker, storage, quick()), JobCompleted)
        assert worker.health().healthy


@pytest.mark.parametrize("error", ERRORS)
async def test_a_retry_policy_that_raises_anything_fails_its_job_alone(
    storage: Probe, error: type[BaseException]
) -> None:
    class Policy(RetryPolicy):
        def retries(self, _: BaseException) -> bool:
            raise error

    @job(retry=Policy())
    async def fails() -> None:
        raise ValueError

    async with working(storage, fails, quick) as worker:
        assert isinstance(await ending(worker, storage, fails()), JobFailed)
        assert isinstance(await ending(worker, storage, quick()), JobCompleted)


@pytest.mark.parametrize("error", [*ERRORS, ValueError])
async def test_a_retry_policy_that_raises_at_a_time_limit_fails_its_job_and_costs_no_slot(
    storage: Probe, stage: Stage, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "GRACE_SECONDS", 0.05)

    class Policy(RetryPolicy):
        def retries(self, _: BaseException) -> bool:
            raise error

    @job(retry=Policy(), timeout=0.01)
    async def returns() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    @job(retry=Policy(), timeout=0.01)
    def hangs() -> None:
        stage.wait("go on")

    async with working(storage, returns, hangs, quick, concurrency=1) as worker:
        for failing in (returns(), hangs()):
            event = await ending(worker, storage, failing)
            assert isinstance(event, JobFailed)
            assert event.error is not None
            assert event.error.type == "jobq_core.errors.JobTimeoutError"
            assert "its retry policy failed" in event.error.message
            assert isinstance(await ending(worker, storage, quick()), JobCompleted)
        stage.reach("go on")


@pytest.mark.parametrize("name", ["fetcher", "leases", "start marks", "progress", "maintenance", "notifications"])
async def test_a_task_of_a_worker_that_ends_makes_it_unhealthy_and_ends_run(
    storage: Probe, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = JobQueueWorker(storage, jobs=[quick])
    running = asyncio.create_task(worker.run())
    await ending(worker, storage, quick())
    [task] = [task for task in asyncio.all_tasks() if task.get_name() == f"jobq {name}"]
    task.cancel()
    await asyncio.wait([task])
    assert not worker.health().healthy
    with pytest.raises(RuntimeError, match=f"the task 'jobq {name}' of the worker was cancelled"):
        await running
    assert f"the task 'jobq {name}' ended before the worker" in caplog.text
    assert await storage.workers() == []
