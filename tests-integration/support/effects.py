"""Handlers that write in the storage's database, and complete in the same transaction.

Run as a program, `effects.py URL FIRST LAST`: for each number, a process of its own runs the job of the queue of that
name, and kills itself before the statement of that number in the handler's connection.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from queue import SimpleQueue
from typing import Any

import aiosqlite
import psycopg

from jobq_core import Backoff, JobContext, LeaseLostError, RetryPolicy, job
from jobq_worker import JobQueueWorker

URL = ""
"""The storage's URL; set before a worker runs."""
statement: Callable[[object], None] = lambda _: None  # noqa: E731
"""Called before each statement of the handler, and after its commit."""
ended, goes_on = asyncio.Event(), asyncio.Event()
late: SimpleQueue[Exception] = SimpleQueue()


@asynccontextmanager
async def connection() -> AsyncIterator[Any]:
    if URL.startswith("sqlite"):
        async with aiosqlite.connect(URL.removeprefix("sqlite:///"), timeout=20) as lite:
            await lite.set_trace_callback(statement)
            yield lite
    else:
        async with await psycopg.AsyncConnection.connect(URL) as postgres:
            yield postgres


@contextmanager
def sync_connection() -> Generator[Any, None, None]:
    if URL.startswith("sqlite"):
        lite = sqlite3.connect(URL.removeprefix("sqlite:///"), timeout=20)
        yield lite
        lite.close()
    else:
        with psycopg.connect(URL) as postgres:
            yield postgres


@job()
async def noop() -> None: ...


@job()
async def effect(context: JobContext, n: int) -> str:
    async with connection() as own:
        await own.execute(f"INSERT INTO effect VALUES ({n})")
        context.add(noop())
        await context.complete_in(own, f"effect {n}")
        await own.commit()
        statement("after the commit")
    ended.set()
    return "not this"


@job()
def sync_effect(context: JobContext, n: int) -> str:
    with sync_connection() as own:
        own.execute(f"INSERT INTO effect VALUES ({n})")
        context.complete_in(own, f"effect {n}")
        own.commit()
    return "not this"


@job()
async def failing_effect(context: JobContext, n: int) -> str:
    """Commit, and raise after it."""
    async with connection() as own:
        await own.execute(f"INSERT INTO effect VALUES ({n})")
        await context.complete_in(own, f"effect {n}")
        await own.commit()
    raise RuntimeError("after the commit")


@job(retry=RetryPolicy(backoff=Backoff(base=0.01)))
async def forgetful_effect(context: JobContext, n: int) -> str:
    """Forget to commit at the first attempt."""
    async with connection() as own:
        await own.execute(f"INSERT INTO effect VALUES ({n})")
        await context.complete_in(own, f"effect {n}")
        if context.attempt > 1:
            await own.commit()
        else:
            await own.rollback()
    return "not this"


@job()
async def slow_effect(context: JobContext, n: int) -> str:
    """Go on after the commit."""
    async with connection() as own:
        await own.execute(f"INSERT INTO effect VALUES ({n})")
        await context.complete_in(own, f"effect {n}")
        await own.commit()
    context.progress(50.0)
    await goes_on.wait()
    ended.set()
    return "not this"


@job()
def late_effect(context: JobContext, n: int) -> None:
    """Write when the lease is over."""
    while not context.wait_aborted(60):
        pass
    with sync_connection() as own:
        own.execute(f"INSERT INTO effect VALUES ({n})")
        try:
            context.complete_in(own)
        except LeaseLostError as error:
            own.rollback()
            late.put(error)


async def run_one(number: int) -> None:
    left = number

    def count(_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(method: Any) -> Any:
        async def wrapped(*args: Any, **keywords: Any) -> Any:
            count(None)
            return await method(*args, **keywords)

        return wrapped

    globals()["statement"] = count
    psycopg.AsyncCursor.execute = counted(psycopg.AsyncCursor.execute)  # type: ignore[method-assign]
    psycopg.AsyncConnection.commit = counted(psycopg.AsyncConnection.commit)  # type: ignore[method-assign]
    async with JobQueueWorker(
        URL, jobs=[effect], queues=[f"kill {number}"], heartbeat_interval=0.4, lost_after=1.0, concurrency=1
    ):
        await ended.wait()


def main() -> None:
    global URL
    URL, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pids = []
    for number in range(first, last + 1):
        pid = os.fork()
        if pid == 0:
            asyncio.run(run_one(number))
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        # In one piece, beside what the next process logs: `print` writes the end of the line by itself.
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")


if __name__ == "__main__":
    main()
