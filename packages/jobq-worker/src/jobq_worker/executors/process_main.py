"""What runs in a handler process: the main thread calls handlers, and other threads read messages and run a loop.

Handlers that are not async run in the main thread, as in a script of their own: signals and alarms work, and a stop can
interrupt them. The run is settled here, where the handler's exception is: retry policies see it, and it is never
pickled.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, cast

from jobq_core.clock_offset import Measured
from jobq_core.ids import new_id
from jobq_core.job import Job
from jobq_worker.around.around import Around
from jobq_worker.around.completions import refuse_in_process
from jobq_worker.around.contexts import make_context
from jobq_worker.around.invoke import invoke_function
from jobq_worker.around.lifespan import Lifespan
from jobq_worker.executors.messages import (
    Begun,
    Channel,
    Ended,
    FromProcess,
    NotReady,
    Ready,
    Setup,
    ShowStacks,
    Stacks,
    StartRun,
    StopRun,
    ToProcess,
)
from jobq_worker.executors.process_logs import ChannelHandler, set_levels
from jobq_worker.executors.process_loop import ProcessLoop
from jobq_worker.executors.process_progress import ProgressSender
from jobq_worker.executors.process_signals import ProcessSignals
from jobq_worker.executors.references import find, load
from jobq_worker.running.outcomes import Raised, Returned, Unstorable
from jobq_worker.running.run import Executor, Handler, Run, RunContext, log_fields
from jobq_worker.settling.settlements import settlement_of
from jobq_worker.sizes import resident_bytes


def main(descriptor: int) -> None:
    """Serve the worker at the other end of this socket until it closes the connection."""
    os.set_inheritable(descriptor, False)
    channel = Channel(socket.socket(fileno=descriptor), ToProcess)
    setup = channel.receive()
    if setup is not None:
        _die_with(setup.parent)
        HandlerHost(channel, setup).serve()


def _die_with(parent: int) -> None:
    """Let the kernel kill this process when its worker ends, even while a handler never lets another thread run."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


class HandlerHost:
    """Runs the handlers of one process, one at a time."""

    def __init__(self, channel: Channel, setup: Setup) -> None:
        self._channel = channel
        self._setup = setup
        self._handlers: dict[str, Handler] = {}
        self._progress = ProgressSender(channel.send)
        self._log = ChannelHandler(channel.send, self._log_fields)
        self._signals = ProcessSignals(self._leave_to_parent)
        self._loop = ProcessLoop()
        self._lifespan: Lifespan | None = None
        self._starts: SimpleQueue[Run | None] = SimpleQueue()
        self._run: Run | None = None
        self._clock = Measured(0.0, 0.0)

    def serve(self) -> None:
        """Import the handlers, and run jobs until the worker closes the connection."""
        self._signals.install()
        logging.getLogger().addHandler(self._log)
        set_levels(self._setup.levels, self._setup.disabled)
        try:
            self._load()
        except BaseException:  # noqa: BLE001  (whatever an import raises; the worker reports it)
            self._send(NotReady(traceback.format_exc()))
            return
        threading.Thread(target=self._read, name="jobq-process", daemon=True).start()
        self._send(Ready())
        while (run := self._starts.get()) is not None:
            self._carry_out(run)
            del run
        if self._lifespan is not None:
            with contextlib.suppress(Exception):  # it is logged
                self._loop.portal.call(self._lifespan.close)
        self._loop.close()

    def _load(self) -> None:
        if self._setup.main:
            from multiprocessing.spawn import prepare

            prepare(self._setup.main)
        around = Around()
        for middleware in self._setup.middleware:
            around.add_middleware(find(middleware))
        for provider in self._setup.providers:
            around.add_provider(find(provider.function), provider.scope)
        definitions = [load(reference) for reference in self._setup.handlers]
        self._lifespan = around.lifespan(definitions)
        self._loop.portal.call(self._lifespan.open)
        for definition in definitions:
            called = around.call(definition, self._loop.portal, self._lifespan.opened)
            self._handlers[definition.kind] = Handler(
                definition,
                called.function if definition.is_async else self._interruptible(called.function),
                cast("Executor", None),  # the process has none
                definition.codec().decode_arguments,
                wants_context=called.wants_context,
                make_context=self._make_context,
            )

    def _interruptible(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that a stop may interrupt."""

        def call_interruptibly(job: Job[Any], *context: RunContext) -> Any:
            with self._signals.interruptible(self._run):
                return function(job, *context)

        return call_interruptibly

    def _send(self, message: FromProcess) -> None:
        with contextlib.suppress(OSError):  # the worker is gone, and this process ends with it
            self._channel.send(message)

    def _log_fields(self) -> dict[str, object]:
        run = self._run
        return {} if run is None else log_fields(run.job)

    def _leave_to_parent(self) -> None:
        """In a process that a handler has forked: let go of what belongs to this one."""
        logging.getLogger().removeHandler(self._log)
        self._channel.close()

    # The reading thread

    def _read(self) -> None:
        while (message := self._channel.receive()) is not None:
            if isinstance(message, StartRun):
                self._run = self._make_run(message)
                self._starts.put(self._run)
            elif isinstance(message, StopRun):
                self._stop(message)
            elif isinstance(message, ShowStacks):
                # Sent by another thread: this one must go on reading while the worker does not.
                threading.Thread(target=self._show_stacks, args=[threading.get_ident()], daemon=True).start()
        if self._run is not None:
            os.killpg(0, signal.SIGKILL)  # the worker is gone
        self._starts.put(None)

    def _show_stacks(self, reader: int) -> None:
        self._send(Stacks(self._loop.describe(reader)))

    def _make_run(self, message: StartRun) -> Run:
        now, left = time.monotonic(), message.deadline_in
        self._clock = message.clock
        due = None if left is None else now + left
        run = Run(message.job, now, due, now, handler=self._handlers[message.job.kind])
        run.make_context()  # by which the run knows whether it has noticed a request to stop
        return run

    def _make_context(self, run: Run) -> RunContext:
        clock = self._clock
        return make_context(
            run,
            worker=self._setup.worker,
            report=lambda progress: self._progress.report(run.job.lease, progress),
            make_id=lambda: new_id(*clock.read()),
            complete=refuse_in_process,
        )

    def _stop(self, message: StopRun) -> None:
        run = self._run
        if run is None or run.context is None or run.job.lease != message.lease:
            return  # it has ended meanwhile
        run.stop = message.reason
        run.context.request_stop()
        if run.handler.definition.is_async:
            self._loop.cancel(run)
        else:
            timer = threading.Timer(self._setup.interrupt_after, self._signals.interrupt, [run])
            timer.daemon = True
            timer.start()

    # The main thread

    def _carry_out(self, run: Run) -> None:
        try:
            run.arguments = run.handler.decode(run.job.arguments)
        except BaseException as error:  # noqa: BLE001  (types of the user's own decode here)
            run.outcome = Raised(error)
        else:
            self._send(Begun())
            if run.handler.definition.is_async:
                self._loop.run(run)
            else:
                invoke_function(run)
        outcome = run.outcome
        assert isinstance(outcome, Returned | Unstorable | Raised)
        told = outcome.told
        settlement = settlement_of(run, outcome)
        progress = self._progress.take()
        run.unlink()
        run.arguments = None
        del outcome  # it may hold the handler's objects
        self._run = None
        self._send(Ended(settlement, told, resident_bytes(), progress))
