"""The jobs of the fault tests: each writes its start and its end to the journal of `JOBQ_FAULTS_JOURNAL`.

The result of each job is its token, so that a mix-up of results shows.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from journal import Ended, How, Journal, Reported, Started, now

from jobq_core import Backoff, JobContext, PermanentJobError, RetryPolicy, job

VARIABLE = "JOBQ_FAULTS_JOURNAL"
SOON = RetryPolicy(backoff=Backoff(base=0.05, maximum=0.5))
MANY = 30
"""Enough attempts for everything that a test does to a job's workers."""


@functools.cache
def journal() -> Journal:
    """Open the journal of this process once."""
    return Journal(os.environ[VARIABLE])


@contextmanager
def noted(context: JobContext, token: str) -> Iterator[None]:
    """Record the run inside the block."""
    journal().write(
        Started(
            token=token,
            job=context.job_id,
            attempt=context.attempt,
            lease=context.lease,
            worker=context.worker,
            pid=os.getpid(),
            at=now(),
        )
    )
    ending: How = "failed"
    try:
        yield
        ending = "completed"
    except asyncio.CancelledError:
        ending = "stopped"
        raise
    finally:
        if context.aborted:
            ending = "stopped"  # the job knows that the rest of the run does not count
        journal().write(Ended(job=context.job_id, lease=context.lease, ending=ending, at=now()))


def report(context: JobContext, percent: float) -> None:
    """Record and report the progress of a run."""
    journal().write(Reported(job=context.job_id, lease=context.lease, percent=percent, at=now()))
    context.progress(percent)


@job(max_attempts=MANY, retry=SOON)
async def quick(context: JobContext, token: str) -> str:
    """End at once."""
    with noted(context, token):
        return token


@job(max_attempts=MANY, retry=SOON)
async def sleeping(context: JobContext, token: str, seconds: float) -> str:
    """Sleep on the event loop, and report progress before and after."""
    with noted(context, token):
        report(context, 10.0)
        await asyncio.sleep(seconds)
        report(context, 100.0)
        return token


@job(max_attempts=MANY, retry=SOON)
def threaded(context: JobContext, token: str, seconds: float) -> str:
    """Sleep in a thread, report progress, and stop on an abort."""
    with noted(context, token):
        if context.wait_aborted(seconds):
            context.check_aborted()
        report(context, 100.0)
        return token


@job(max_attempts=MANY, retry=SOON)
async def flaky(context: JobContext, token: str, failures: int) -> str:
    """Fail at the first attempts."""
    with noted(context, token):
        if context.attempt <= failures:
            raise ConnectionError(f"attempt {context.attempt} of {token} fails on purpose")
        return token


@job(max_attempts=MANY, retry=SOON)
async def doomed(context: JobContext, token: str) -> str:
    """Fail permanently."""
    with noted(context, token):
        raise PermanentJobError(f"{token} fails on purpose")


@job(max_attempts=MANY, retry=SOON)
async def at_gate(context: JobContext, token: str, gate: str) -> str:
    """Wait until the test, another process, makes the file `gate`; poll every few milliseconds."""
    with noted(context, token):
        while not os.path.exists(gate):  # noqa: ASYNC110, ASYNC240, PTH110
            await asyncio.sleep(0.01)
        return token


@job(max_attempts=MANY, retry=SOON)
def threaded_at_gate(context: JobContext, token: str, gate: str) -> str:
    """Do the same as `at_gate` in a thread, and stop on an abort."""
    with noted(context, token):
        while not os.path.exists(gate):  # noqa: PTH110
            context.wait_aborted(0.01)
            context.check_aborted()
        return token


@job(max_attempts=MANY, retry=SOON)
async def blocking(context: JobContext, token: str, seconds: float) -> str:
    """Block the event loop, which a coroutine must not do."""
    with noted(context, token):
        time.sleep(seconds)  # noqa: ASYNC251
        return token


@job(max_attempts=3, retry=SOON)
async def poison(context: JobContext, token: str) -> str:
    """Kill the process that runs the job, at each attempt."""
    with noted(context, token):
        os.kill(os.getpid(), signal.SIGKILL)
        return token


@job(max_attempts=MANY, retry=SOON)
def hungry(context: JobContext, token: str, megabytes: int) -> str:
    """Allocate this many megabytes of memory, page by page."""
    with noted(context, token):
        size = len(b"x" * (megabytes * 1024 * 1024))
        return token if size else ""
