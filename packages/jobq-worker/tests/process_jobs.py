"""Jobs for the tests of the process executor. Handler processes import this module."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from jobq_core import (
    Backoff,
    Job,
    JobContext,
    PermanentJobError,
    RetryableJobError,
    RetryPolicy,
    Secret,
    Snooze,
    current_job,
    job,
    provided,
)

logger = logging.getLogger("shop")


@job(executor="process")
def pid() -> int:
    return os.getpid()


@job(executor="process")
async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


@job(executor="process")
class Describe(Job[dict[str, str]]):
    path: Path
    every: timedelta = timedelta(hours=1)

    def execute(self, context: JobContext) -> dict[str, str]:
        assert threading.current_thread() is threading.main_thread()
        context.progress(50, "half", {"every": self.every})
        context.add(pid(), priority=3)
        return {
            "suffix": self.path.suffix,
            "every": str(self.every),
            "job": str(context.job_id),
            "worker": str(context.worker),
            "tags": ",".join(context.tags),
            "tenant": context.headers["tenant"],
            "deadline": str(context.deadline is not None),
        }


@job(executor="process")
class Bare(Job[int]):
    n: int


def supplied(job: Bare, context: JobContext) -> int:
    """The handler that a test supplies."""
    return job.n + context.attempt


class OwnError(Exception):
    def __init__(self, key: str, *, code: int) -> None:  # cannot be pickled
        super().__init__(f"{key} was refused with {code}")
        self.lock = threading.Lock()


@job(executor="process", max_attempts=2, retry=RetryPolicy(backoff=Backoff(base=0), fail_on=(LookupError,)))
def fail(how: str, key: Secret[str]) -> int:
    match how:
        case "retry":
            raise OwnError(key.reveal(), code=7)
        case "lookup":
            raise LookupError(how)
        case "permanent":
            raise PermanentJobError(how)
        case "later":
            raise RetryableJobError(how, delay=3600)
        case "snooze":
            raise Snooze(3600)
        case "exit":
            sys.exit(3)
        case _:
            return how  # type: ignore[return-value]  # as a wrong handler does


@job(executor="process", max_attempts=1)
def die(how: str) -> None:
    match how:
        case "SIGSEGV":
            ctypes.string_at(0)
        case "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        case _:
            os._exit(int(how))


@job(executor="process", max_attempts=2, retry=RetryPolicy(backoff=Backoff(base=0)))
def die_first(context: JobContext) -> int:
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return context.attempt


@job(executor="process")
def wait_for(pipe: str) -> int:
    """Say that it runs, and wait until the test closes its end of the pipe."""
    Path(pipe).read_text()
    return os.getpid()


@job(executor="process", max_attempts=1)
def hang(pipe: str) -> None:
    """Hang as no exception can end it, with a child process that holds the pipe open too."""
    with Path(pipe).open("w") as held:
        held.write(f"{os.getpid()}\n")
        held.flush()
        subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], pass_fds=[held.fileno()])
        ctypes.PyDLL(None).sleep(1000)  # holds the interpreter's lock


@job(executor="process", max_attempts=1)
def sleep(pipe: str) -> None:
    with Path(pipe).open("w") as held:
        try:
            held.write("asleep\n")
            held.flush()
            time.sleep(1000)
        finally:
            held.write("cleaned up\n")


@job(executor="process", max_attempts=1)
def heed(context: JobContext, pipe: str) -> str:
    Path(pipe).write_text("waits\n")
    assert context.wait_aborted(60)
    return "heeded"


@job(executor="process", max_attempts=1)
async def sleep_async(pipe: str) -> None:
    await asyncio.to_thread(Path(pipe).write_text, "asleep\n")
    await asyncio.sleep(1000)


@job(executor="process")
def hold(size: int) -> int:
    held.append(b"x" * size)
    return os.getpid()


held: list[Any] = []


@job(executor="process")
def report_often(context: JobContext, times: int) -> None:
    for number in range(times):
        context.progress(100 * number / times, "x" * 10_000)
    context.progress(100, "last")


@job(executor="process")
def log(secret: Secret[str]) -> None:
    logger.debug("never sent")
    logger.info("for %s", secret, extra={"order": 7, "secret": secret, "where": Path("shop")})
    try:
        raise LookupError("gone")
    except LookupError:
        logger.exception("it failed")


@job(executor="process")
def signals() -> list[str]:
    """Signals to the process are ignored; a process that it forks gets the default behaviour."""
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    forked = os.fork()
    if not forked:
        signal.pause()
        os._exit(0)
    os.kill(forked, signal.SIGTERM)
    return ["goes on", signal.Signals(os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) * -1).name]


@job(executor="process")
def use_multiprocessing() -> list[int]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map(abs, [-1, -2])


@job(executor="process")
def current() -> str:
    context = current_job()
    assert context is not None
    return str(context.job_id)


def exclaim(job: Job[Any], context: JobContext) -> Iterator[None]:
    """A middleware that runs where the handler runs."""
    yield
    context.result = f"{context.result}!"


async def wonder(job: Job[Any], context: JobContext) -> AsyncIterator[None]:
    """A middleware that runs on the process's event loop."""
    await asyncio.sleep(0)
    try:
        yield
    except LookupError:
        context.result = os.getpid()
    else:
        context.result = f"{context.result}?"


@job(executor="process")
async def look_up() -> int:
    raise LookupError("caught by a middleware")


class Pool:
    """A resource that each process opens once."""

    def __init__(self) -> None:
        self.uses = 0


async def open_pool() -> AsyncIterator[Pool]:
    """Provide the pool; its closing is logged."""
    pool = Pool()
    yield pool
    logger.warning("closed in %d after %d uses", os.getpid(), pool.uses)


def open_cursor(pool: Pool) -> Iterator[list[int]]:
    """Provide what each run has for itself."""
    pool.uses += 1
    yield [os.getpid(), pool.uses]


@job(executor="process")
def use(*, cursor: list[int] = provided()) -> list[int]:
    return cursor


def open_nothing() -> Pool:
    """A provider that fails."""
    raise ConnectionError("the database is down")


@job(executor="process", max_attempts=1)
async def need(*, pool: Pool = provided()) -> int:
    return pool.uses
