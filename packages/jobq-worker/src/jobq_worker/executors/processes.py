"""Handlers in processes: the one executor that can end a handler that hangs, by killing its process.

Why not a library: a shared queue of work, as in pebble, loky, billiard and `concurrent.futures`, is guarded by a lock
that a killed process may hold, and then all others wait for it. With pebble 5.2 a handler that calls `os._exit(0)`
never ends, a process that is killed while it is idle breaks the pool, and one that ignores SIGTERM keeps the pool from
watching the others for 3 s. None of them has a way to talk to a running handler. Here each process has a connection of
its own, and shares nothing with the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, TypeVarTuple
from uuid import UUID

from jobq_core.clock_offset import ClockOffset
from jobq_core.job import JobDefinition
from jobq_core.records import Progress
from jobq_worker.around.around import Around
from jobq_worker.executors.handler_process import END_SECONDS
from jobq_worker.executors.messages import FunctionReference, HandlerReference, ProviderReference, Setup
from jobq_worker.executors.process_logs import read_levels
from jobq_worker.executors.process_run import ProcessOptions, before_start
from jobq_worker.executors.process_thread import ProcessThread
from jobq_worker.executors.references import reference_to, reference_to_function
from jobq_worker.options import WorkerOptions
from jobq_worker.running.run import Executor, Handler, Run

Ts = TypeVarTuple("Ts")

INTERRUPT_SECONDS: Final = 0.5
"""Time after a request to stop, which a handler sees at once as `context.aborted`, until it is interrupted by an
exception."""
KILL_SECONDS: Final = 1.0
"""Time after a request to stop until the process of a handler that goes on is killed."""


class ProcessExecutor(Executor):
    """Runs handlers in processes, one per run at a time, which are kept for later runs.

    The first process starts with the worker, the others when a run needs one: at most `limit`, or as many as there are
    slots. Runs beyond the limit wait.

    ended: called with each run whose handler has ended. begun: called with each run whose handler is called now.
    waiting: where the runs are kept that wait for a process. report: called, in any thread, with progress. worker: the
    worker's id.
    """

    name: ClassVar[str] = "process"
    runs_coroutines: ClassVar[bool | None] = None
    kill_seconds: ClassVar[float] = KILL_SECONDS
    reports_start: ClassVar[bool] = True
    calls_here: ClassVar[bool] = False

    def __init__(
        self,
        ended: Callable[[Run], None],
        begun: Callable[[Run], None],
        waiting: deque[Run],
        report: Callable[[Run, Progress], None],
        clock_offset: ClockOffset,
        worker: UUID,
        options: WorkerOptions,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = ended
        self._begun = begun
        self._report = report
        self._clock_offset = clock_offset
        self._worker = worker
        self._options = options
        self._shared: ProcessOptions | None = None
        self._threads: set[ProcessThread] = set()
        self._free: list[ProcessThread] = []
        self._running: dict[Run, ProcessThread] = {}
        self._waiting = waiting
        self._starting = 0
        """The number of threads whose process is not ready."""
        self._all_ended = asyncio.Event()
        self._closed = False

    @classmethod
    def check(cls, definition: JobDefinition, around: Around) -> None:
        """Raise ConfigurationError if a process would not find the handler, or what is around it."""
        super().check(definition, around)
        reference_to(definition)
        _around_references(around)

    def prepare(self, handlers: Sequence[Handler], around: Around) -> None:
        """Find out where processes find the handlers; does nothing without any."""
        if not handlers:
            return
        references = [reference_to(handler.definition) for handler in handlers]
        middleware, providers = _around_references(around)
        self._shared = ProcessOptions(
            setup=Setup(
                handlers=references,
                middleware=middleware,
                providers=providers,
                worker=self._worker,
                parent=os.getpid(),
                main=_main_module(references, [*middleware, *(each.function for each in providers)]),
                levels=read_levels(),
                disabled=logging.root.manager.disable,
                interrupt_after=INTERRUPT_SECONDS,
            ),
            max_jobs=self._options.process_max_jobs,
            max_memory=self._options.process_max_memory,
            clock=lambda: self._clock_offset.measured,
            report=self._report,
            begun=lambda run: self._call(self._begun, run),
            ended=lambda thread, run, free: self._call(self._end, thread, run, free),
            freed=lambda thread: self._call(self._start_done, thread),
            closed=lambda thread: self._call(self._forget, thread),
        )

    def open(self) -> None:
        """Start the first process, so that the first run finds it ready."""
        if self._shared is not None:
            self._add(self._shared)

    def _add(self, shared: ProcessOptions) -> None:
        self._threads.add(ProcessThread(shared))
        self._starting += 1

    def start(self, run: Run) -> None:
        """Give the run to a process that is ready. It waits for one if there is none, and another process starts unless
        enough are starting: a process that ends its run meanwhile may be the first that is ready."""
        assert self._shared is not None  # a handler was bound to this executor
        if self._free:
            self._give(run, self._free.pop())
            return
        self._waiting.append(run)
        limit = self._options.process_limit
        if len(self._waiting) > self._starting and (limit is None or len(self._threads) < limit):
            self._add(self._shared)

    def _give(self, run: Run, thread: ProcessThread) -> None:
        self._running[run] = thread
        thread.take(run)

    def _release(self, thread: ProcessThread) -> None:
        if self._waiting:
            self._give(self._waiting.popleft(), thread)
        else:
            self._free.append(thread)

    def stop(self, run: Run) -> None:
        thread = self._running.get(run)
        if thread is not None:
            thread.wake()
            self._loop.call_later(KILL_SECONDS, thread.kill, run)
        elif run in self._waiting:
            self._waiting.remove(run)
            run.outcome = before_start(run)
            self._loop.call_soon(self._ended, run)

    def stack(self, run: Run) -> str:
        thread = self._running.get(run)
        return "  (it waits for a process)\n" if thread is None else thread.stacks()

    def _call(self, function: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """Call a function on the event loop, from a thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)

    def _end(self, thread: ProcessThread, run: Run, free: bool) -> None:
        del self._running[run]
        if free:
            self._release(thread)
        else:
            self._starting += 1
        self._ended(run)

    def _start_done(self, thread: ProcessThread) -> None:
        self._starting -= 1
        self._release(thread)

    def close(self) -> None:
        """Kill the processes that run a handler, and let the others end."""
        if not self._closed:
            self._closed = True
            self._waiting.clear()
            for thread in self._threads:
                thread.close()
            if not self._threads:
                self._all_ended.set()

    def _forget(self, thread: ProcessThread) -> None:
        self._threads.discard(thread)
        if self._closed and not self._threads:
            self._all_ended.set()

    async def wait_closed(self) -> None:
        """Wait until the processes have ended; not for one that the kernel does not end, as in a failed disk."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS + KILL_SECONDS):
                await self._all_ended.wait()


def _around_references(around: Around) -> tuple[list[FunctionReference], list[ProviderReference]]:
    """Return where a process finds the middleware and the providers; raises ConfigurationError if it would not."""
    middleware = [reference_to_function(each.function, f"the middleware {each.name}") for each in around.middleware]
    providers = [
        ProviderReference(reference_to_function(function, f"the provider {function.__qualname__}"), scope)
        for function, scope in around.provided
    ]
    return middleware, providers


def _main_module(handlers: Sequence[HandlerReference], functions: Sequence[FunctionReference]) -> dict[str, str]:
    """Return what `multiprocessing` needs to import the program's main module; {} if nothing that runs is there."""
    modules = {each.module for each in handlers} | {each.module for each in functions}
    modules |= {each.supplied.module for each in handlers if each.supplied is not None}
    if "__main__" not in modules:
        return {}
    from multiprocessing.spawn import get_preparation_data

    found = get_preparation_data("jobq")
    return {name: found[name] for name in ("init_main_from_name", "init_main_from_path") if name in found}
