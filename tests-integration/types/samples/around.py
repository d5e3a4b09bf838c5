"""What is around a handler: the checker knows resources, middleware, lifespans and providers."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, assert_type

from jobq_client import JobQueueClient
from jobq_core import ChildJob, Job, JobContext, current_job, job, provided
from jobq_worker import JobQueueWorker


class Pool:
    async def fetch(self) -> int:
        return 1


@job
async def charge(order_id: int, *, db: Pool = provided()) -> int:
    return order_id + await db.fetch()


@job
async def literal(order_id: int, *, db: Pool) -> int:
    return order_id + await db.fetch()


async def add(client: JobQueueClient) -> None:
    handle = await client.add(charge(order_id=7), headers={"tenant": "7"})
    assert_type(await handle.result(), int)
    charge(order_id="7")  # E: the argument has a type
    await client.add(charge(7), headers={"tenant": 7})  # E: a header is text
    literal(order_id=7)  # E: a type checker wants the resource here: give it the default provided()


async def test() -> None:
    assert_type(await charge.func(7, db=Pool()), int)


@job
def parent(context: JobContext) -> None:
    assert_type(context.add(charge(7), priority=3, headers={"a": "b"}), ChildJob[int])
    context.add(charge(7), colour="red")  # E: no such option


worker = JobQueueWorker("memory://", jobs=[charge])


@worker.middleware
def generator(job: Job[Any], context: JobContext) -> Generator[None, Any, None]:
    result = yield
    assert result


@worker.middleware
def iterator(job: Job[Any], context: JobContext) -> Iterator[None]:
    yield


@worker.middleware
async def async_generator(job: Job[Any], context: JobContext) -> AsyncGenerator[None, Any]:
    yield


@worker.middleware
async def async_iterator(job: Job[Any], context: JobContext) -> AsyncIterator[None]:
    yield


@worker.middleware
@contextmanager
def manager(job: Job[Any], context: JobContext) -> Generator[None, None, None]:
    yield


@worker.middleware
@asynccontextmanager
async def async_manager(job: Job[Any], context: JobContext) -> AsyncGenerator[None, None]:
    yield


@worker.middleware  # E: it takes the job and the context
def wrong(job: Job[Any]) -> Iterator[None]:
    yield


@worker.lifespan
async def lifespan() -> AsyncIterator[None]:
    yield


@worker.lifespan
def sync_lifespan() -> Iterator[None]:
    yield


@worker.provides
async def pool() -> AsyncIterator[Pool]:
    yield Pool()


@worker.provides(scope="run")
def number(pool: Pool, context: JobContext) -> Iterator[int]:
    yield 7


@worker.provides(scope="job")  # E: it is 'worker' or 'run'
def text() -> str:
    return "7"


assert_type(pool(), AsyncIterator[Pool])
assert_type(current_job(), JobContext | None)
