"""Middleware: generators and context managers around each handler, on the event loop and in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from jobq_core import (
    Backoff,
    ConfigurationError,
    Job,
    JobAborted,
    JobCompleted,
    JobContext,
    JobFailed,
    PermanentJobError,
    RetryPolicy,
    current_job,
    job,
)
from jobq_worker import JobQueueWorker

from .kit import Endings, Stage, add, ending, record
from .probe import Probe

variable: ContextVar[str] = ContextVar("variable", default="unset")


@pytest.fixture(params=["async", "thread"])
def act(request: pytest.FixtureRequest) -> Any:
    """Return a job that returns, raises or reads what its argument says, as a coroutine or in a thread."""

    def body(what: str) -> str:
        if what == "fail":
            raise ValueError("no")
        if what == "exit":
            raise SystemExit("leave")
        return variable.get() if what == "variable" else what

    if request.param == "thread":

        @job(max_attempts=1)
        def act_in_thread(what: str = "done") -> str:
            return body(what)

        return act_in_thread

    @job(max_attempts=1)
    async def act_on_loop(what: str = "done") -> str:
        return body(what)

    return act_on_loop


async def run(storage: Probe, job: Any, *middleware: Any) -> Any:
    """Run one job with this middleware, and return its ending."""
    worker = JobQueueWorker(storage, jobs=[type(job).definition.job_type])
    for one in middleware:
        worker.middleware(one)
    async with worker:
        return await ending(worker, storage, job)


def four_forms(notes: list[str]) -> list[Any]:
    """Return a middleware of each form, which notes its begin and its end."""

    def generator(job: Job[Any], context: JobContext) -> Iterator[None]:
        notes.append("+generator")
        result = yield
        notes.append(f"-generator {result}")

    async def async_generator(job: Job[Any], context: JobContext) -> AsyncIterator[None]:
        notes.append("+async generator")
        result = yield
        notes.append(f"-async generator {result}")

    @contextmanager
    def manager(job: Job[Any], context: JobContext) -> Iterator[None]:
        notes.append("+manager")
        yield
        notes.append(f"-manager {context.result}")

    @asynccontextmanager
    async def async_manager(job: Job[Any], context: JobContext) -> AsyncIterator[None]:
        notes.append("+async manager")
        yield
        notes.append(f"-async manager {context.result}")

    return [generator, async_generator, manager, async_manager]


async def test_every_form_runs_around_the_handler_in_order(storage: Probe, act: Any) -> None:
    notes: list[str] = []
    assert isinstance(await run(storage, act(), *four_forms(notes)), JobCompleted)
    forms = ["generator", "async generator", "manager", "async manager"]
    assert notes == [*[f"+{form}" for form in forms], *[f"-{form} done" for form in reversed(forms)]]


async def test_a_middleware_gets_the_job_and_its_context(storage: Probe, act: Any) -> None:
    seen: list[Any] = []

    def look(job: Job[Any], context: JobContext) -> Iterator[None]:
        seen.extend([job, context.kind, context.headers, current_job() is context])
        yield

    worker = JobQueueWorker(storage, jobs=[act])
    worker.middleware(look)
    async with worker:
        await ending(worker, storage, act("x"), headers={"tenant": "7"})
    assert seen == [act("x"), act.definition.kind, {"tenant": "7"}, True]


async def test_a_sync_middleware_runs_where_the_handler_does(storage: Probe, act: Any) -> None:
    threads: list[str] = []

    def sync(job: Job[Any], context: JobContext) -> Iterator[None]:
        threads.append(threading.current_thread().name)
        yield

    async def on_loop(job: Job[Any], context: JobContext) -> AsyncIterator[None]:
        threads.append(threading.current_thread().name)
        yield

    await run(storage, act(), sync, on_loop)
    assert (threads[0] == threading.current_thread().name) == act.definition.is_async
    assert threads[1] == threading.current_thread().name


async def test_context_variables_of_a_middleware_reach_the_handler(storage: Probe, act: Any) -> None:
    def sync(job: Job[Any], context: JobContext) -> Iterator[None]:
        variable.set("set")
        yield

    assert (await run(storage, act("variable"), sync)).result_json == b'"set"'


FORMS = ["generator", "async generator", "manager", "async manager"]


def replacing(form: str, change: Any) -> Any:
    """Return a middleware of a form that passes (context, error) to `change` after the handler."""

    def generator(job: Job[Any], context: JobContext) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # noqa: BLE001  (a middleware sees each)
            change(context, error)
        else:
            change(context, None)

    async def async_generator(job: Job[Any], context: JobContext) -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:  # noqa: BLE001  (a middleware sees each)
            change(context, error)
        else:
            change(context, None)

    return {
        "generator": generator,
        "async generator": async_generator,
        "manager": contextmanager(generator),
        "async manager": asynccontextmanager(async_generator),
    }[form]


@pytest.mark.parametrize("form", FORMS)
async def test_a_middleware_may_replace_the_result(storage: Probe, act: Any, form: str) -> None:
    def change(context: JobContext, error: BaseException | None) -> None:
        context.result = f"{context.result} and more"

    ended = await run(storage, act(), replacing(form, change), replacing(form, change))
    assert ended.result_json == b'"done and more and more"'


@pytest.mark.parametrize("form", FORMS)
async def test_a_middleware_may_swallow_an_exception(storage: Probe, act: Any, form: str) -> None:
    def change(context: JobContext, error: BaseException | None) -> None:
        context.result = f"in spite of {error!r}"

    ended = await run(storage, act("fail"), replacing(form, change))
    assert isinstance(ended, JobCompleted)
    assert ended.result_json == b"\"in spite of ValueError('no')\""


@pytest.mark.parametrize("form", FORMS)
async def test_a_middleware_may_raise_another_exception(storage: Probe, act: Any, form: str) -> None:
    def change(context: JobContext, error: BaseException | None) -> None:
        raise PermanentJobError("replaced") from error

    ended = await run(storage, act("fail"), replacing(form, change))
    assert isinstance(ended, JobFailed)
    assert ended.error is not None
    assert (ended.error.type, ended.error.message) == ("jobq_core.errors.PermanentJobError", "replaced")
    assert "ValueError: no" in str(ended.error.traceback)


@pytest.mark.parametrize("form", FORMS)
async def test_an_exception_that_passes_a_middleware_is_recorded_as_it_was_raised(
    storage: Probe, act: Any, form: str
) -> None:
    def change(context: JobContext, error: BaseException | None) -> None:
        assert error is not None
        raise error

    ended = await run(storage, act("fail"), replacing(form, change))
    assert ended.error.type == "ValueError"
    assert "in body" in ended.error.traceback
    plain = await run(storage, act("fail"), *four_forms([]))
    assert "in body" in plain.error.traceback


async def test_the_exit_of_a_handler_is_seen_and_does_not_end_the_worker(storage: Probe, act: Any) -> None:
    seen: list[str] = []

    def change(context: JobContext, error: BaseException | None) -> None:
        seen.append(type(error).__name__)
        if error is not None:
            raise error

    ended = await run(storage, act("exit"), *[replacing(form, change) for form in FORMS])
    assert (ended.error.type, seen) == ("SystemExit", ["SystemExit"] * 4)


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit("mine"), KeyboardInterrupt("mine")], ids=repr)
async def test_an_exception_of_a_middleware_ends_the_run_and_not_the_worker(
    storage: Probe, act: Any, where: str, form: str, error: BaseException
) -> None:
    def generator(job: Job[Any], context: JobContext) -> Iterator[None]:
        if where == "before":
            raise error
        yield
        raise error

    async def async_generator(job: Job[Any], context: JobContext) -> AsyncIterator[None]:
        if where == "before":
            raise error
        yield
        raise error

    forms = {
        "generator": generator,
        "async generator": async_generator,
        "manager": contextmanager(generator),
        "async manager": asynccontextmanager(async_generator),
    }
    ended = await run(storage, act(), forms[form])
    assert isinstance(ended, JobFailed)
    assert ended.error is not None
    assert (ended.error.type, ended.error.message) == (type(error).__name__, "mine")


def never(job: Job[Any], context: JobContext) -> Iterator[None]:
    return
    yield


async def never_async(job: Job[Any], context: JobContext) -> AsyncIterator[None]:
    return
    yield


def twice(job: Job[Any], context: JobContext) -> Iterator[None]:
    yield
    yield


async def twice_async(job: Job[Any], context: JobContext) -> AsyncIterator[None]:
    yield
    yield


def nothing(job: Job[Any], context: JobContext) -> Any:
    return 7


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (never, "middleware never ended without a yield"),
        (never_async, "middleware never_async ended without a yield"),
        (twice, "middleware twice yielded twice"),
        (twice_async, "middleware twice_async yielded twice"),
        (nothing, "middleware nothing must be a generator function or return a context manager, not a int"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_middleware_of_a_wrong_form_fails_the_run_by_name(
    storage: Probe, act: Any, wrong: Any, says: str
) -> None:
    ended = await run(storage, act(), wrong)
    assert isinstance(ended, JobFailed)
    assert ended.error is not None
    assert ended.error.message == says


async def test_what_cannot_be_a_middleware_is_refused_at_once(storage: Probe, act: Any) -> None:
    async def coroutine(job: Job[Any], context: JobContext) -> None: ...

    def one(job: Job[Any]) -> Iterator[None]:
        yield

    worker = JobQueueWorker(storage, jobs=[act])
    with pytest.raises(ConfigurationError, match="a middleware is a generator function"):
        worker.middleware(coroutine)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match="a middleware is a generator function"):
        worker.middleware(7)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match=r"a middleware takes \(job, context\)"):
        worker.middleware(one)  # type: ignore[type-var]
    async with worker:
        with pytest.raises(ConfigurationError, match="before the worker starts"):
            worker.middleware(twice)


async def test_an_aborted_run_passes_through_its_middleware(storage: Probe, stage: Stage) -> None:
    @job
    async def wait() -> None:
        stage.reach("started")
        await asyncio.Event().wait()

    worker = JobQueueWorker(storage, jobs=[wait])
    seen: list[Any] = []

    @worker.middleware
    def swallow(job: Job[Any], context: JobContext) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # noqa: BLE001  (a middleware sees each)
            seen.append((type(error), context.aborted))

    async with worker:
        endings = Endings(worker)
        job_id = await add(storage, wait())
        await stage.reached("started")
        await storage.abort([job_id])
        assert isinstance(await endings.of(job_id), JobAborted)  # whatever the middleware makes of it
    assert seen == [(asyncio.CancelledError, True)]


async def test_what_a_middleware_adds_is_stored_as_what_the_handler_adds(storage: Probe, act: Any) -> None:
    def also(job: Job[Any], context: JobContext) -> Iterator[None]:
        yield
        context.add(act("later"), delay=600)

    worker = JobQueueWorker(storage, jobs=[act])
    worker.middleware(also)
    async with worker:
        endings = Endings(worker)
        job_id = await add(storage, act())
        await endings.of(job_id)
    [settlement] = storage.settlements_of(job_id)
    assert [(await record(storage, child.id)).arguments for child in settlement.jobs] == [{"what": "later"}]


async def test_a_retried_run_passes_through_its_middleware_again(storage: Probe) -> None:
    @job(max_attempts=2, retry=RetryPolicy(backoff=Backoff(base=0)))
    async def fail() -> None:
        raise ValueError("no")

    worker = JobQueueWorker(storage, jobs=[fail])
    attempts: list[Any] = []

    @worker.middleware
    def count(job: Job[Any], context: JobContext) -> Iterator[None]:
        attempts.append((context.attempt, context.result))
        context.result = "left over"
        yield

    async with worker:
        endings = Endings(worker)
        assert isinstance(await endings.of(await add(storage, fail()), 2), JobFailed)
    assert attempts == [(1, None), (2, None)]
