"""Synchronous handlers: one thread per run that is under way, kept for the next ones.

Threads of our own instead of `ThreadPoolExecutor`: that one joins its threads when the process exits, so a handler that
ignores its abort would keep the process for ever. Ends are handed to the loop in bunches, one wake-up for all.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from queue import SimpleQueue
from typing import ClassVar

from jobq_worker.executors.base import Ended, Executor
from jobq_worker.run import Run
from jobq_worker.settlements import raised, returned


class ThreadExecutor(Executor):
    """Runs plain functions in daemon threads, as many as runs are under way at the same time."""

    name: ClassVar[str] = "thread"
    runs_coroutines: ClassVar[bool] = False

    def __init__(self, ended: Ended) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = ended
        self._context = contextvars.copy_context()
        self._work: SimpleQueue[Run | None] = SimpleQueue()
        self._done: deque[Run] = deque()
        self._rung = False
        self._under_way = 0
        self._threads = 0
        self._closed = False

    def start(self, run: Run) -> None:
        if self._under_way == self._threads:
            threading.Thread(target=self._serve, name=f"jobq-handler-{self._threads + 1}", daemon=True).start()
            self._threads += 1
        self._under_way += 1
        self._work.put(run)

    def stop(self, run: Run) -> None:
        if run.context is not None:
            run.context.request_stop()

    def close(self) -> None:
        self._closed = True
        for _ in range(self._threads):
            self._work.put(None)

    def _serve(self) -> None:
        while (run := self._work.get()) is not None:
            self._context.copy().run(_perform, run)
            self._done.append(run)
            del run
            if not self._rung:
                self._rung = True
                try:
                    self._loop.call_soon_threadsafe(self._collect)
                except RuntimeError:
                    return  # the loop is closed: the run was abandoned, and its job handed back, before that

    def _collect(self) -> None:
        # Cleared before looking: a run that ends meanwhile rings again.
        self._rung = False
        while self._done:
            self._under_way -= 1
            run = self._done.popleft()
            if not self._closed:
                self._ended(run)


def _perform(run: Run) -> None:
    handler, context = run.handler, run.context
    try:
        run.arguments = arguments = handler.definition.decode_arguments(run.job.arguments)
        value = handler.function(arguments) if context is None else handler.function(arguments, context)
        run.outcome = returned(run, value, told=context is not None and context.told)
    except BaseException as error:  # noqa: BLE001  (whatever a handler raises is the job's, and never the worker's)
        run.outcome = raised(run, error, told=context is not None and context.aborted)
