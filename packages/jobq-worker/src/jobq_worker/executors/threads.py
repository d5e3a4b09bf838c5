"""Synchronous handlers: one thread per run, kept for later runs.

These are plain threads instead of a `ThreadPoolExecutor`, which joins its threads when the process exits: a handler
that ignores its abort would keep the process alive. Ends reach the event loop in batches, with one wake-up each.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import ClassVar

from jobq_worker.around.invoke import invoke_function
from jobq_worker.running.run import Executor, Run
from jobq_worker.stacks import find_thread, thread_stack


class ThreadExecutor(Executor):
    """Runs plain functions in daemon threads, one per run at a time. ended: called with each run whose handler has
    ended."""

    name: ClassVar[str] = "thread"
    runs_coroutines: ClassVar[bool | None] = False

    def __init__(self, ended: Callable[[Run], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = ended
        self._context = contextvars.copy_context()
        self._work: SimpleQueue[Run | None] = SimpleQueue()
        self._done: deque[Run] = deque()
        self._collecting = False
        self._running = 0
        self._threads = 0
        self._closed = False

    def start(self, run: Run) -> None:
        if self._running == self._threads:
            threading.Thread(target=self._serve, name=f"jobq-handler-{self._threads + 1}", daemon=True).start()
            self._threads += 1
        self._running += 1
        self._work.put(run)

    def stop(self, run: Run) -> None:
        if run.context is not None:
            run.context.request_stop()

    def stack(self, run: Run) -> str:
        serve = ThreadExecutor._serve.__code__
        thread = find_thread(lambda frame: frame.f_code is serve and frame.f_locals.get("run") is run)
        return "  (the handler has not begun, or has ended)\n" if thread is None else thread_stack(thread)

    def close(self) -> None:
        self._closed = True
        for _ in range(self._threads):
            self._work.put(None)

    def _serve(self) -> None:
        while (run := self._work.get()) is not None:
            self._context.copy().run(invoke_function, run)
            self._done.append(run)
            del run
            if not self._collecting:
                self._collecting = True
                try:
                    self._loop.call_soon_threadsafe(self._collect)
                except RuntimeError:
                    return  # the loop is closed: the run was abandoned and its job released before

    def _collect(self) -> None:
        # Cleared before the queue is read: a run that ends meanwhile schedules another collection.
        self._collecting = False
        while self._done:
            self._running -= 1
            run = self._done.popleft()
            if not self._closed:
                self._ended(run)
