"""`ProcessRun`: what a thread of the worker and a handler process say to each other about one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import attrs

from jobq_core.clock_offset import Measured
from jobq_core.errors import AbortSignalJobError
from jobq_core.records import Progress
from jobq_worker.executors.handler_process import HandlerProcess
from jobq_worker.executors.messages import Begun, Ended, Setup, StartRun, StopRun
from jobq_worker.running.outcomes import Outcome, Raised, Settled
from jobq_worker.running.run import Run

READY_SECONDS: Final = 60.0
"""Time that a process has to import its handlers."""
BEGIN_SECONDS: Final = 10.0
"""Time in which a process that is ready begins a run; one that was paused does not."""


@attrs.frozen(kw_only=True)
class ProcessOptions:
    """What each thread needs to know.

    setup: the first message to each process. max_jobs, max_memory: how many runs a process may have, and how many bytes
    of memory after a run, before another one takes its place (None: any). clock: returns the measured offset of the
    storage's clock. report: called with progress. begun: called when a handler is called. ended: called with the
    thread, a run, whose `outcome` is set, and whether the thread can take another one at once. freed: called with the
    thread when it can take one otherwise. closed: called with the thread at its end. All are called in the thread.
    """

    setup: Setup
    max_jobs: int | None
    max_memory: int | None
    clock: Callable[[], Measured]
    report: Callable[[Run, Progress], None]
    begun: Callable[[Run], None]
    ended: Callable[[Any, Run, bool], None]
    freed: Callable[[Any], None]
    closed: Callable[[Any], None]


class ProcessRun:
    """A run in a process.

    begun: whether its handler was called. asked: whether the process was asked to stop it.
    """

    def __init__(self, process: HandlerProcess, run: Run, options: ProcessOptions) -> None:
        self._process = process
        self._run = run
        self._options = options
        self._sent = False
        self._begins_by = time.monotonic() + READY_SECONDS
        self.begun = False
        self.asked = False

    def hold(self, handle: Callable[[HandlerProcess, object, Run], None]) -> Outcome | None:
        """Carry the run out. Return how it ended, or None if the process has ended before it.

        handle: called with each message that is not about the beginning or the end of the run.
        """
        process, run = self._process, self._run
        while True:
            if run.stop is not None and not self._sent:
                return before_start(run)
            self._tell()
            message = process.receive()
            if message is None:
                return None
            if isinstance(message, Begun):
                self.begun = True
                self._options.begun(run)
            elif isinstance(message, Ended):
                return self._end(message)
            elif message:
                handle(process, message, run)
            elif not process.wait(None if self.begun else max(self._begins_by - time.monotonic(), 0.0)):
                process.kill()

    def _tell(self) -> None:
        """Send what the process must know by now: the run, once it is ready, and a request to stop it."""
        process, run = self._process, self._run
        if process.ready and not self._sent:
            self._sent = True
            self._begins_by = time.monotonic() + BEGIN_SECONDS
            left = None if run.due is None else run.due - time.monotonic()
            process.send(StartRun(run.job, self._options.clock(), left))
        if run.stop is not None and not self.asked:
            self.asked = True
            process.send(StopRun(run.job.lease, run.stop))

    def _end(self, message: Ended) -> Outcome:
        self._process.runs += 1
        self._process.memory = message.memory
        if message.progress is not None:
            self._options.report(self._run, message.progress)
        return Settled(message.settlement, message.told)


def before_start(run: Run) -> Raised:
    """Return how a run ends that is asked to stop before its handler is called."""
    return Raised(AbortSignalJobError(f"job {run.job.id} was asked to stop before it began"), told=True)
