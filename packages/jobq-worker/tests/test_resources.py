"""Resources: what a handler gets by type from `@worker.provides`, once per worker or for each run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from jobq_core import ConfigurationError, Job, JobCompleted, JobContext, JobFailed, current_job, job, provided
from jobq_worker import JobQueueWorker

from .kit import Endings, add, add_many, ending, working
from .probe import Probe

if TYPE_CHECKING:
    from nowhere import Ghost


class Settings:
    """A resource without an own form."""

    url = "db"


class Pool:
    """A resource that needs another and notes what happens to it."""

    def __init__(self, name: str = "pool") -> None:
        self.name = name
        self.notes: list[str] = []


class Session:
    """A resource of one run."""

    def __init__(self, pool: Pool, job: str) -> None:
        self.pool = pool
        self.job = job


@job
async def charge(order_id: int, *, db: Pool = provided()) -> str:
    return f"{order_id} on {db.name}"


@job
def charge_in_thread(order_id: int, *, db: Pool = provided()) -> str:
    return f"{order_id} on {db.name}"


@job(max_attempts=1)
async def use_session(fail: bool = False, *, session: Session = provided(), db: Pool = provided()) -> str:
    db.notes.append(f"used for {session.job}")
    if fail:
        raise ValueError("no")
    return session.pool.name


@job(max_attempts=1)
def use_session_in_thread(fail: bool = False, *, session: Session = provided(), db: Pool = provided()) -> str:
    return asyncio.run(use_session.func(fail, session=session, db=db))


# How a handler declares what it needs


@job
async def literal(context: JobContext, order_id: int, *, copies: int = 1, db: Pool) -> str:
    return f"{context.attempt}: {order_id} x {copies} on {db.name}"


@job
class Report(Job[str]):
    month: str

    def execute(self, context: JobContext, *, db: Pool) -> str:
        return f"{self.month} on {db.name}, {context.kind}"


@job
class Bare(Job[str]):
    month: str


@job
async def two_pools(*, one: Annotated[Pool, "one"] = provided(), other: Annotated[Pool, "other"] = provided()) -> str:
    return f"{one.name} and {other.name}"


@job
async def haunted(*, ghost: Ghost = provided()) -> str:
    return type(ghost).__name__


def test_a_resource_is_not_an_argument_of_the_job() -> None:
    assert repr(charge(order_id=7)) == "charge(order_id=7)"
    assert literal(7, copies=2).definition.resources == {"db": Pool}  # type: ignore[call-arg]
    assert charge.definition.encode_arguments(charge(7)) == b'{"order_id":7}'
    with pytest.raises(TypeError) as raised:
        charge(7, db=Pool())
    assert raised.value.__notes__ == [
        "'db' is supplied by the worker, since its type has no JSON form or its default is provided()"
    ]


async def test_a_handler_is_called_with_a_resource_of_ones_own_in_a_test() -> None:
    assert await charge.func(7, db=Pool("mine")) == "7 on mine"


def test_a_resource_is_keyword_only() -> None:
    with pytest.raises(ConfigurationError, match=r"'db' has the default provided\(\): make it keyword-only"):

        @job
        async def wrong(order_id: int, db: Pool = provided()) -> None: ...


async def result_of(storage: Probe, worker: JobQueueWorker, *jobs: Any) -> list[Any]:
    async with worker:
        endings = Endings(worker)
        ended = await endings.all(await add_many(storage, jobs))
    return [getattr(each, "result_json", getattr(each, "error", None)) for each in ended]


async def test_every_kind_of_handler_gets_it(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[charge, charge_in_thread, literal, Report, Bare])

    @worker.provides
    def pool() -> Pool:
        return Pool()

    @worker.handles(Bare)
    def bare(job: Bare, *, db: Pool) -> str:
        return f"{job.month} on {db.name}"

    jobs = [charge(1), charge_in_thread(2), literal(3, copies=2), Report("May"), Bare("June")]  # type: ignore[call-arg]
    assert await result_of(storage, worker, *jobs) == [
        b'"1 on pool"',
        b'"2 on pool"',
        b'"1: 3 x 2 on pool"',
        b'"May on pool, Report"',
        b'"June on pool"',
    ]


def forms(notes: list[str]) -> dict[str, Callable[[], Any]]:
    """Return a provider of each form, which notes its opening and closing."""

    def function() -> Pool:
        notes.append("open")
        return Pool()

    async def coroutine() -> Pool:
        notes.append("open")
        return Pool()

    def generator() -> Iterator[Pool]:
        notes.append("open")
        yield Pool()
        notes.append("closed")

    async def async_generator() -> AsyncIterator[Pool]:
        notes.append("open")
        yield Pool()
        notes.append("closed")

    return {
        "function": function,
        "coroutine": coroutine,
        "generator": generator,
        "async generator": async_generator,
        "manager": contextmanager(generator),
        "async manager": asynccontextmanager(async_generator),
    }


FORMS = tuple(forms([]))


@pytest.mark.parametrize("form", FORMS)
async def test_a_resource_of_the_worker_is_opened_once_and_closed_at_the_end(storage: Probe, form: str) -> None:
    notes: list[str] = []
    worker = JobQueueWorker(storage, jobs=[charge, charge_in_thread])
    worker.provides(forms(notes)[form])
    for _ in range(2):
        assert await result_of(storage, worker, charge(1), charge_in_thread(2)) == [b'"1 on pool"', b'"2 on pool"']
    closing = ["closed"] if "closed" in notes else []
    assert notes == ["open", *closing] * 2
    assert bool(closing) == ("generator" in form or "manager" in form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("declared", [charge, charge_in_thread], ids=["async", "thread"])
async def test_a_resource_of_a_run_is_opened_and_closed_around_each_handler(
    storage: Probe, form: str, declared: Any
) -> None:
    notes: list[str] = []
    worker = JobQueueWorker(storage, jobs=[declared], concurrency=1)
    worker.provides(scope="run")(forms(notes)[form])
    assert await result_of(storage, worker, declared(1), declared(2)) == [b'"1 on pool"', b'"2 on pool"']
    assert notes == (["open", "closed"] * 2 if "closed" in notes else ["open"] * 2)


def chain(worker: JobQueueWorker, pool: Pool, outcomes: list[str]) -> None:
    """Provide a session for each run, which needs the pool of the worker and the context of the run."""

    @worker.provides
    async def open_pool(settings: Settings) -> AsyncIterator[Pool]:
        pool.notes.append(f"open {settings.url}")
        yield pool
        pool.notes.append("close")

    @worker.provides
    def settings() -> Settings:
        return Settings()

    @worker.provides(scope="run")
    def session(pool: Pool, context: JobContext) -> Iterator[Session]:
        assert current_job() is context
        try:
            yield Session(pool, context.kind)
        except ValueError:
            outcomes.append("rollback")  # and forgets to raise it again
        else:
            outcomes.append("commit")


@pytest.mark.parametrize("declared", [use_session, use_session_in_thread], ids=["async", "thread"])
async def test_resources_need_each_other(storage: Probe, declared: Any) -> None:
    worker, pool, outcomes = JobQueueWorker(storage, jobs=[declared], concurrency=1), Pool(), []
    chain(worker, pool, outcomes)
    good, bad = await result_of(storage, worker, declared(), declared(fail=True))
    kind = declared.definition.kind
    assert pool.notes == ["open db", f"used for {kind}", f"used for {kind}", "close"]
    assert outcomes == ["commit", "rollback"]
    assert good == b'"pool"'
    assert bad.type == "ValueError"  # a provider that catches it cannot make a failed run complete


@pytest.mark.parametrize("declared", [use_session, use_session_in_thread], ids=["async", "thread"])
@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_provider_that_fails_ends_the_run_and_not_the_worker(storage: Probe, declared: Any, where: str) -> None:
    worker = JobQueueWorker(storage, jobs=[declared])

    @worker.provides
    def pool() -> Pool:
        return Pool()

    @worker.provides(scope="run")
    async def session(pool: Pool) -> AsyncIterator[Session]:
        if where == "before":
            raise SystemExit("no session")
        yield Session(pool, "")
        raise SystemExit("no session")

    async with worker:
        ended = await ending(worker, storage, declared())
    assert isinstance(ended, JobFailed)
    assert ended.error is not None
    assert (ended.error.type, ended.error.message) == ("SystemExit", "no session")


async def test_a_sync_resource_of_a_run_is_opened_in_the_thread_of_its_handler(storage: Probe) -> None:
    threads: list[threading.Thread] = []

    @job
    def look(*, db: Pool = provided()) -> None:
        threads.append(threading.current_thread())

    worker = JobQueueWorker(storage, jobs=[look])

    @worker.provides(scope="run")
    def pool() -> Iterator[Pool]:
        threads.append(threading.current_thread())
        yield Pool()
        threads.append(threading.current_thread())

    await result_of(storage, worker, look())
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()


async def test_middleware_is_around_the_resources(storage: Probe) -> None:
    worker, notes = JobQueueWorker(storage, jobs=[charge]), []
    worker.provides(scope="run")(forms(notes)["generator"])

    @worker.middleware
    def around(job: Job[Any], context: JobContext) -> Iterator[None]:
        notes.append("in")
        result = yield
        notes.append(result)

    await result_of(storage, worker, charge(1))
    assert notes == ["in", "open", "closed", "1 on pool"]


async def test_annotated_tells_two_resources_of_one_class_apart(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[two_pools])

    @worker.provides
    def one() -> Annotated[Pool, "one"]:
        return Pool("one")

    @worker.provides
    async def other() -> AsyncIterator[Annotated[Pool, "other"]]:
        yield Pool("other")

    assert await result_of(storage, worker, two_pools()) == [b'"one and other"']


async def test_a_type_that_is_imported_for_type_checkers_only_is_found_by_its_name(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[haunted])
    with pytest.raises(ConfigurationError, match="job 'haunted': nothing provides Ghost for its parameter 'ghost'"):
        worker.check()
    ghost = type("Ghost", (), {})

    def provide() -> Any:
        return ghost()

    provide.__annotations__["return"] = ghost
    worker.provides(provide)
    assert await result_of(storage, worker, haunted()) == [b'"Ghost"']


async def test_only_what_the_jobs_need_is_opened(storage: Probe) -> None:
    notes: list[str] = []
    worker = JobQueueWorker(storage, jobs=[haunted, charge])
    worker.provides(forms(notes)["generator"])

    @job
    async def plain() -> None: ...

    other = JobQueueWorker(storage, jobs=[plain])
    other.provides(forms(notes)["generator"])
    async with other:
        assert isinstance(await ending(other, storage, plain()), JobCompleted)
    assert notes == []


# What is refused


async def test_a_worker_does_not_start_without_the_resources_of_its_jobs(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[charge, use_session])
    says = (
        r"job 'charge': nothing provides Pool for its parameter 'db'.*\n.*job 'use_session': nothing provides Session"
    )
    with pytest.raises(ConfigurationError, match=says):
        await worker.start()
    with pytest.raises(ConfigurationError, match=says):
        worker.check()
    assert storage.calls["register"] == 0


async def test_providers_in_a_circle_are_refused(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[charge])

    @worker.provides
    def pool(settings: Settings) -> Pool:
        return Pool()

    @worker.provides
    def settings(pool: Pool) -> Settings:
        return Settings()

    with pytest.raises(ConfigurationError, match=r"need each other in a circle: .*pool → .*settings → .*pool"):
        worker.check()


async def test_a_resource_of_the_worker_cannot_need_one_of_a_run(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[charge])

    @worker.provides
    def pool(settings: Settings) -> Pool:
        return Pool()

    @worker.provides(scope="run")
    def settings() -> Settings:
        return Settings()

    with pytest.raises(ConfigurationError, match="pool is opened once per worker, and its parameter 'settings'"):
        worker.check()
    context_bound = JobQueueWorker(storage, jobs=[charge])

    @context_bound.provides
    def of_context(context: JobContext) -> Pool:
        return Pool()

    with pytest.raises(ConfigurationError, match="its parameter 'context' is made for each run"):
        context_bound.check()


def nothing_said():  # type: ignore[no-untyped-def]
    return Pool()


def said_any() -> Any:
    return Pool()


def untyped(pool) -> Settings:  # type: ignore[no-untyped-def]
    return Settings()


def ghostly() -> Ghost: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (ghostly, "provider ghostly: its return annotation 'Ghost' names a type that its module does not have"),
        (nothing_said, "provider nothing_said: its return annotation says which type it provides"),
        (said_any, "its return annotation says"),
        (untyped, "provider untyped: its parameter 'pool' needs the type of another resource"),
        (Pool, "@worker.provides decorates a function, not <class"),
        (7, "@worker.provides decorates a function, not 7"),
    ],
    ids=["ghostly", "nothing_said", "said_any", "untyped", "class", "number"],
)
async def test_what_cannot_be_a_provider_is_refused_at_once(storage: Probe, wrong: Any, says: str) -> None:
    worker = JobQueueWorker(storage, jobs=[charge])
    with pytest.raises(ConfigurationError, match=says):
        worker.provides(wrong)


async def test_two_providers_of_one_type_are_refused(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[charge])
    worker.provides(forms([])["function"])
    with pytest.raises(ConfigurationError, match=r"function and .*generator both provide Pool"):
        worker.provides(forms([])["generator"])
    with pytest.raises(ConfigurationError, match="the scope of a resource is 'worker' or 'run', not 'job'"):
        worker.provides(scope="job")(forms([])["function"])  # type: ignore[call-overload]


async def test_a_program_that_only_adds_needs_no_resource(storage: Probe) -> None:
    job_id = await add(storage, haunted())

    @job
    async def plain() -> None: ...

    async with working(storage, plain) as worker:
        assert isinstance(await ending(worker, storage, plain()), JobCompleted)
    assert (await storage.get([job_id]))[0] is not None
