"""The jobs of the tests with several processes, which all of them import.

A test controls a job through files: a job waits at a gate until the test creates a file of that name, and writes what
it did as a line of a log to which all processes append.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from pathlib import Path
from uuid import UUID

from jobq_core import ErrorRecord, JobContext, job

LOOK_EVERY = 0.01


def note(log: str, line: str) -> None:
    """Append a line in one write, so that lines of several processes do not mix."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


async def opening_of(gate: str) -> None:
    """Wait until the test, which is another process, has created the file; checks every few milliseconds."""
    path = Path(gate)
    while not path.exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(LOOK_EVERY)


@job()
async def add_up(a: int, b: int) -> int:
    """Return the sum."""
    return a + b


@job()
async def count(log: str, n: int) -> int:
    """Note one run."""
    note(log, str(n))
    return n


@job()
async def say_pid(log: str) -> int:
    """Log the run, and return the id of this process."""
    note(log, str(os.getpid()))
    return os.getpid()


@job()
def compute(seconds: float) -> None:
    """Keep a processor busy for so many seconds."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@job()
async def at_gate(gate: str, log: str, name: str) -> str:
    """Log the start, wait at the gate, log the end, or the cancellation."""
    note(log, f"started {name}")
    try:
        await opening_of(gate)
    except asyncio.CancelledError:
        note(log, f"cancelled {name}")
        raise
    note(log, f"finished {name}")
    return name


@job()
async def report_failure(job_id: UUID, kind: str, error: ErrorRecord, log: str) -> str:
    """Log the failure of a job, and return its id."""
    note(log, f"{kind} failed: {error.type}")
    return str(job_id)


@job(on_failure=report_failure)
async def reported_at_gate(gate: str, log: str, name: str) -> str:
    """Do as `at_gate`, with a follow-up."""
    return await at_gate.func(gate, log, name)


@job()
def thread_at_gate(context: JobContext, gate: str, log: str, name: str) -> str:
    """Do the same in a thread, which stops when it is aborted."""
    note(log, f"started {name}")
    while not Path(gate).exists():
        if context.wait_aborted(LOOK_EVERY):
            note(log, f"aborted {name}")
            context.check_aborted()
    note(log, f"finished {name}")
    return name


@job()
async def in_steps(context: JobContext, folder: str) -> str:
    """Report 10, 50 and 90 percent, each when its gate opens."""
    for percent in (10, 50, 90):
        await opening_of(f"{folder}/{percent}")
        context.progress(percent, f"step {percent}", {"percent": percent})
    await opening_of(f"{folder}/end")
    return "all steps"


@job()
def deaf(gate: str, log: str) -> None:
    """Wait at the gate in a thread, and ignore the abort."""
    note(log, "started deaf")
    while not Path(gate).exists():
        time.sleep(LOOK_EVERY)


@job()
async def block(context: JobContext, gate: str, log: str) -> None:
    """Wait at the gate in a coroutine, and block the event loop, in the first attempt alone."""
    note(log, f"started block {context.attempt}")
    while context.attempt == 1 and not Path(gate).exists():  # noqa: ASYNC240
        time.sleep(LOOK_EVERY)  # noqa: ASYNC251


@job()
def exhaust_descriptors(gate: str, log: str) -> None:
    """Take all file descriptors of the process until the gate opens."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (file + 20, before[1]))
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    os.write(file, b"exhausted\n")
    while not Path(gate).exists():
        time.sleep(LOOK_EVERY)
    for taken_file in [*taken, file]:
        os.close(taken_file)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
