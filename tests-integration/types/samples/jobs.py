"""Declared jobs: the checker knows the types of arguments and results."""

import asyncio
from datetime import timedelta
from typing import assert_type

from jobq_client import JobHandle, JobQueueClient
from jobq_core import Backoff, Job, JobContext, JobRecord, Secret, job, register_type


@job(queue="mail", max_attempts=5)
async def send_receipt(order_id: int, *, copy_to: str | None = None) -> str:
    return f"{order_id} {copy_to}"


@job()
def resize(context: JobContext, path: str, sizes: list[int]) -> list[str]:
    context.progress(50, "half")
    return [path for _ in sizes]


@job()
async def reserve(context: JobContext, item: str) -> int:
    await context.complete_in(object(), 7)
    return 7


@job()
def reserve_in_thread(context: JobContext, item: str) -> int:
    context.complete_in(object(), result=7)
    return 7


@job(fingerprint=True)
async def tokenise(context: JobContext, text: str, key: Secret[str]) -> int:
    return len(text) + len(key.reveal())


@job(queue="images", timeout=60)
class Thumbnail(Job[bytes]):
    path: str
    width: int = 256

    def execute(self, context: JobContext) -> bytes:
        return self.path.encode()


@job()
class Contract(Job[dict[str, int]]):
    name: str


@job
async def bare(order_id: int) -> str:
    return str(order_id)


@job
def bare_with_context(context: JobContext, path: str) -> bytes:
    return path.encode()


@job
class Bare(Job[int]):
    number: int


send_receipt(order_id=7)
send_receipt(7, copy_to="a@b.example")
send_receipt("7")  # E: an order's id is a number
send_receipt()  # E: an order's id is needed
send_receipt(7, "a@b.example")  # E: copy_to is given by name
resize("a.png", [1, 2])  # the context is supplied at run time
resize(JobContext(), "a.png", [1, 2])  # E: and is not an argument of the call
Thumbnail("a.png", width=3)
Thumbnail(width=3)  # E: the path is needed
Thumbnail("a.png").width = 5  # E: a job is frozen
job(priority="high")  # E: a priority is a number
job(timeout=timedelta(minutes=1))
assert_type(Bare(1), Bare)
bare(7)
bare("7")  # E: an order's id is a number
bare_with_context("a.png")
bare_with_context(JobContext(), "a.png")  # E: the context is not an argument of the call
Bare("7")  # E: a number is a number
job(7)  # E: a number cannot be a job
Backoff(base=timedelta(seconds=5), maximum=60)
assert_type(Backoff(base=timedelta(seconds=5)).base, float)
Backoff(base="5 s")  # E: a wait is seconds or a timedelta
register_type(complex, encode=str, decode=complex)
register_type(complex, encode=len, decode=complex)  # E: a complex number has no length


JobQueueClient()
JobQueueClient("sqlite:///shop.db", patience=timedelta(seconds=5), poll=0.5)
JobQueueClient(patience="long")  # E: it is a number of seconds


async def submit(client: JobQueueClient) -> None:
    handle = await client.add(send_receipt(order_id=7), priority=5, delay=30)
    assert_type(handle, JobHandle[str])
    assert_type(await client.wait_for(handle, timeout=60), str)
    assert_type(await handle.result(), str)
    assert_type(await client.wait_for(await client.add(resize("a", [1]))), list[str])
    assert_type(await client.wait_for(await client.add(Thumbnail(path="a"))), bytes)
    assert_type(await client.wait_for(await client.add(Contract(name="a"))), dict[str, int])
    assert_type(client.handle("0192", send_receipt), JobHandle[str])
    assert_type(client.handle(handle.id, resize), JobHandle[list[str]])
    assert_type(await client.handle(handle.id, Thumbnail).result(timeout=timedelta(minutes=1)), bytes)
    assert_type(await client.add(bare(7)), JobHandle[str])
    assert_type(await client.add(bare_with_context("a")), JobHandle[bytes])
    assert_type(await client.add(Bare(7)), JobHandle[int])
    assert_type(await client.output_for(tokenise("a", Secret("k"))), int | None)
    assert_type(await client.get(handle.id), JobRecord | None)
    assert_type(await client.add_many([send_receipt(1), send_receipt(2)]), list[JobHandle[str]])
    client.handle(handle.id, "send_receipt")  # E: a name does not tell the type
    client.handle(send_receipt, handle.id)  # E: the id comes first
    await client.add(send_receipt)  # E: a kind without arguments is not a job
    await client.add(send_receipt(1), priorty=5)  # E: there is no such option
    await client.add(send_receipt(1), delay="soon")  # E: a delay is a time


def test_a_body() -> None:
    assert_type(asyncio.run(send_receipt.func(order_id=7)), str)
    assert_type(resize.func(JobContext(), "a", sizes=[1]), list[str])
    send_receipt.func("7")  # E: the handler needs the job's arguments
