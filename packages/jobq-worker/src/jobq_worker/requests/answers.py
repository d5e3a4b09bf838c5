"""`Stacks`: the answer to a request for the stacks of a worker, or of one of its jobs."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Final
from uuid import UUID

from jobq_worker.running.pipeline import Pipeline
from jobq_worker.running.run import Run
from jobq_worker.stacks import all_tasks, all_threads

MAX_BYTES: Final = 256 << 10
"""Maximum size of an answer, in bytes of UTF-8; the rest is left out."""
ASK_SECONDS: Final = 5.0
"""Time in which handler processes are asked, when the stacks of all jobs are wanted."""


class Stacks:
    """Describes the jobs of a pipeline, in any thread. It is made on the event loop."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def describe(self, job: UUID | None) -> str:
        """Return the stack of a job's handler, or those of all that runs; at most MAX_BYTES."""
        return shorten(self._all() if job is None else self._one(job), MAX_BYTES)

    def _one(self, job: UUID) -> str:
        for run in list(self._pipeline.running):
            if run.job.id == job:
                return self._run(run)
        if any(run.job.id == job for run in list(self._pipeline.claimed)):
            return f"job {job} is claimed and waits for a slot of this worker\n"
        return f"job {job} does not run in this worker: it has ended, or another worker has it\n"

    def _run(self, run: Run) -> str:
        job, executor = run.job, run.handler.executor
        ran = f"runs for {time.monotonic() - run.started:.1f} s" if run.started else "has not been started"
        asked = "" if run.stop is None else f", was asked to stop ({run.stop.value})"
        head = f"job {job.id} ({job.kind}), attempt {job.attempt}, {ran}{asked}; executor {executor.name!r}\n"
        return head + executor.stack(run)

    def _all(self) -> str:
        parts, ends = [], time.monotonic() + ASK_SECONDS
        for run in list(self._pipeline.running):
            if time.monotonic() > ends:
                parts.append("(further jobs are left out: handler processes took too long to answer)\n")
                break
            parts.append(self._run(run))
        parts += [f"thread {name}\n{stack}" for name, stack in all_threads()]
        parts += [f"task {name}\n{stack}" for name, stack in all_tasks(self._loop, self._thread)]
        return "\n".join(parts)


def shorten(text: str, limit: int) -> str:
    """Return a text of at most `limit` bytes, which says how many are left out."""
    data = text.encode(errors="backslashreplace")
    if len(data) <= limit:
        return data.decode()
    kept = data[: limit - 60].decode(errors="ignore")
    return f"{kept}\n… {len(data) - len(kept.encode())} more bytes are left out\n"
