"""Lifespans: open from a worker's start, before its first claim, to the end of its stop, after its last run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from jobq_core import ConfigurationError, JobCompleted, WorkerStopped, job, provided
from jobq_worker import JobQueueWorker
from jobq_worker.around import lifespan

from .kit import Stage, add, ending
from .probe import Probe


class Pool:
    """A resource."""


@job
async def act() -> None: ...


@job
async def use(*, pool: Pool = provided()) -> None: ...


async def test_lifespans_open_in_order_and_close_in_reverse(storage: Probe) -> None:
    worker, notes = JobQueueWorker(storage, jobs=[act, use]), []

    @worker.lifespan
    async def first() -> AsyncIterator[None]:
        notes.append("+first")
        yield
        notes.append("-first")

    @worker.lifespan
    def second() -> Iterator[None]:
        notes.append("+second")
        yield
        notes.append("-second")

    @worker.lifespan
    @asynccontextmanager
    async def third() -> AsyncIterator[None]:
        notes.append("+third")
        yield
        notes.append("-third")

    @worker.lifespan
    @contextmanager
    def fourth() -> Iterator[None]:
        notes.append("+fourth")
        yield
        notes.append("-fourth")

    @worker.provides
    def pool() -> Iterator[Pool]:
        notes.append("+pool")
        yield Pool()
        notes.append("-pool")

    names = ["first", "second", "third", "fourth", "pool"]
    expected = [*[f"+{name}" for name in names], *[f"-{name}" for name in reversed(names)]]
    async with worker:
        assert isinstance(await ending(worker, storage, act()), JobCompleted)
    assert notes == expected
    async with worker:
        assert notes == [*expected, *expected[:5]]


async def test_jobs_run_between_the_opening_and_the_closing(storage: Probe, stage: Stage) -> None:
    opened: list[bool] = []

    @job
    async def look() -> None:
        opened.append(bool(state))
        stage.reach("running")
        await asyncio.sleep(0)
        opened.append(bool(state))

    worker, state = JobQueueWorker(storage, jobs=[look]), set()

    @worker.lifespan
    async def open_state() -> AsyncIterator[None]:
        assert storage.calls["register"] == storage.calls["settle_and_claim"] == 0
        state.add("open")
        yield
        assert storage.calls["deregister"] == 1
        state.clear()

    await add(storage, look())
    async with worker:
        await stage.reached("running")
    assert opened == [True, True]
    assert state == set()


async def test_a_task_group_lives_in_a_lifespan(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[act])

    @worker.lifespan
    async def group() -> AsyncIterator[None]:
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(asyncio.Event().wait())
            yield
            waiting.cancel()

    await worker.start()
    await asyncio.create_task(worker.stop())  # entered and left in one task all the same


@pytest.mark.parametrize("error", [OSError("no database"), SystemExit("no database")], ids=repr)
async def test_a_lifespan_that_fails_to_open_fails_the_start(storage: Probe, error: BaseException) -> None:
    worker, notes = JobQueueWorker(storage, jobs=[act]), []

    @worker.lifespan
    def first() -> Iterator[None]:
        notes.append("open")
        yield
        notes.append("closed")

    @worker.lifespan
    def second() -> Iterator[None]:
        if notes.count("open") == 1:
            raise error
        yield

    with pytest.raises(type(error), match="no database"):
        await worker.start()
    # `first` sees the exception, as every context manager does around a failing one.
    assert notes == ["open"]
    assert storage.calls["register"] == 0
    assert worker.health().state == "new"
    async with worker:  # and it may be started again
        assert isinstance(await ending(worker, storage, act()), JobCompleted)


async def test_a_start_that_fails_later_closes_the_lifespans(storage: Probe) -> None:
    worker, notes = JobQueueWorker(storage, jobs=[act]), []

    @worker.lifespan
    def first() -> Iterator[None]:
        yield
        notes.append("closed")

    storage.fail("register")
    with pytest.raises(Exception, match="the connection broke"):
        await worker.start()
    assert notes == ["closed"]


async def test_a_cancelled_start_closes_the_lifespans(storage: Probe, stage: Stage) -> None:
    worker, notes = JobQueueWorker(storage, jobs=[act]), []

    @worker.lifespan
    async def slow() -> AsyncIterator[None]:
        stage.reach("opening")
        try:
            await asyncio.Event().wait()
        finally:
            notes.append("cancelled")
        yield

    starting = asyncio.create_task(worker.start())
    await stage.reached("opening")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert notes == ["cancelled"]


@pytest.mark.parametrize("error", [OSError("late"), SystemExit("late")], ids=repr)
async def test_a_lifespan_that_fails_to_close_fails_the_stop_after_it(
    storage: Probe, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    worker, stopped = JobQueueWorker(storage, jobs=[act]), []
    worker.on(WorkerStopped, stopped.append)

    @worker.lifespan
    async def wrong() -> AsyncIterator[None]:
        yield
        raise error

    await worker.start()
    with pytest.raises((OSError, RuntimeError), match=r"late|SystemExit"):
        await worker.stop()
    assert len(stopped) == 1
    assert worker.health().state == "stopped"
    assert "a lifespan or a resource of the worker failed to close" in caplog.text


async def test_run_raises_what_a_lifespan_raised_at_the_end(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[act])

    @worker.lifespan
    async def wrong() -> AsyncIterator[None]:
        yield
        raise OSError("late")

    running = asyncio.create_task(worker.run())
    assert isinstance(await ending(worker, storage, act()), JobCompleted)
    with contextlib.suppress(OSError):
        await worker.stop()
    with pytest.raises(OSError, match="late"):
        await running


async def test_a_lifespan_that_hangs_is_cancelled(storage: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifespan, "CLOSE_SECONDS", 0.01)
    worker = JobQueueWorker(storage, jobs=[act])

    @worker.lifespan
    async def hung() -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    await worker.start()
    with pytest.raises(TimeoutError, match=r"did not close in 0.01 s"):
        await worker.stop()


async def test_what_cannot_be_a_lifespan_is_refused(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[act])

    async def coroutine() -> None: ...

    def takes(app: Any) -> Iterator[None]:
        yield

    with pytest.raises(ConfigurationError, match="a lifespan is a generator function"):
        worker.lifespan(coroutine)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match=r"a lifespan takes \(\)"):
        worker.lifespan(takes)  # type: ignore[type-var]
    worker.lifespan(lambda: 7)  # type: ignore[type-var, arg-type, return-value]
    with pytest.raises(TypeError, match="must be a generator function or return a context manager"):
        await worker.start()


async def test_a_worker_without_lifespans_makes_no_task_for_them(storage: Probe) -> None:
    async with JobQueueWorker(storage, jobs=[act]):
        assert "jobq lifespan" not in {task.get_name() for task in asyncio.all_tasks()}
