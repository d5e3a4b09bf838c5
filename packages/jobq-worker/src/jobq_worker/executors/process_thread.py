"""`ProcessThread`: the thread of a worker that serves one handler process.

It sends the process runs, one at a time, and reads its messages. When the process has ended, was killed, or has run
enough, another one takes its place.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import Final

from jobq_worker.executors.handler_process import HandlerProcess
from jobq_worker.executors.messages import LogEntry, NotReady, Ready, Report, ShowStacks, Stacks
from jobq_worker.executors.process_logs import replay
from jobq_worker.executors.process_run import READY_SECONDS, ProcessOptions, ProcessRun
from jobq_worker.running.outcomes import Lost, Outcome
from jobq_worker.running.run import Run

logger = logging.getLogger("jobq.worker")

STACK_SECONDS: Final = 2.0
"""Time that a process has to show its stacks."""
TRIES: Final = 2
"""How many processes may end before they call a handler; then its run fails."""


class ProcessThread:
    """A process and its thread, which starts at once."""

    def __init__(self, options: ProcessOptions) -> None:
        self._options = options
        self._runs: deque[Run | None] = deque()
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._process: HandlerProcess | None = None
        self._killable: Run | None = None
        self._kill_lock = threading.Lock()
        self._failure = ""
        self._asked_for_stacks: deque[SimpleQueue[str]] = deque()
        threading.Thread(target=self._serve, name="jobq-process", daemon=True).start()

    # On the event loop

    def take(self, run: Run) -> None:
        """Run a handler; the thread must be free."""
        self._runs.append(run)
        self.wake()

    def wake(self) -> None:
        """Let the thread see that a run is asked to stop."""
        with contextlib.suppress(OSError):  # it has not seen the calls before this one, or has ended
            self._wake.send(b"\0")

    def kill(self, run: Run) -> None:
        """Kill the process if it still runs this run."""
        with self._kill_lock:
            if self._killable is run and self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Kill the process if it runs a handler, or let it end."""
        self._runs.append(None)
        with self._kill_lock:
            if self._killable is not None and self._process is not None:
                self._process.kill()
        self.wake()

    # In any thread

    def stacks(self) -> str:
        """Ask the process for its stacks, and wait STACK_SECONDS at most."""
        answer: SimpleQueue[str] = SimpleQueue()
        self._asked_for_stacks.append(answer)
        process = self._process
        if process is None:
            return "  (its process has ended)\n"
        process.send(ShowStacks())
        try:
            return answer.get(timeout=STACK_SECONDS)
        except Empty:
            return (
                f"  (process {process.pid} did not answer within {STACK_SECONDS:g} s: it is paused, starts, or runs "
                "code that lets no other thread run)\n"
            )

    # In the thread

    def _serve(self) -> None:
        try:
            self._start()
            free = False
            while (run := self._next(free)) is not None:
                run.outcome = self._carry_out(run)
                free = self._is_fit()
                self._options.ended(self, run, free)
                del run
                if not free and not self._runs:
                    self._replace()
        finally:
            if self._process is not None:
                self._finish(self._process)
            self._woken.close()
            self._wake.close()
            self._options.closed(self)

    def _next(self, free: bool) -> Run | None:
        """Wait for a run. The messages of the process, such as log records, are handled meanwhile.

        free: whether this thread has said that it can take one. It does so when its process is ready, or cannot start:
        then the run finds that out.
        """
        ready_by = time.monotonic() + READY_SECONDS
        while not self._runs:
            process = self._process
            if not free and (process is None or process.ready):
                free = True
                self._options.freed(self)
            if process is None:
                self._woken.setblocking(True)
                self._woken.recv(64)
                self._woken.setblocking(False)
            elif process.wait(None if process.ready else max(ready_by - time.monotonic(), 0.0)):
                self._handle_idle(process)
            else:
                process.kill()
        return self._runs.popleft()

    def _handle_idle(self, process: HandlerProcess) -> None:
        try:
            message = process.receive()
        except Exception:
            logger.exception("a handler process (%d) sent what cannot be read, and is killed", process.pid)
            process.kill()
            message = None
        if message is None:
            was_ready = process.ready
            logger.warning("an idle handler process (%d) %s; another one takes its place", process.pid, self._lose())
            if was_ready:
                self._start()
        elif message:
            self._handle(process, message, None)

    def _handle(self, process: HandlerProcess, message: object, run: Run | None) -> None:
        """Handle a message that does not end a run."""
        match message:
            case Stacks(text):
                while self._asked_for_stacks:
                    self._asked_for_stacks.popleft().put(text)
            case Ready():
                process.ready = True
            case NotReady(error):
                self._failure = error.strip().rpartition("\n")[2]
                logger.error("a handler process (%d) could not start:\n%s", process.pid, error)
            case LogEntry(record):
                replay(record, run)
            case Report(lease, progress) if run is not None and lease == run.job.lease:
                self._options.report(run, progress)
            case _:
                pass  # a report of a run that has ended

    def _start(self) -> None:
        self._process, self._failure = None, ""
        try:
            self._process = HandlerProcess(self._options.setup, self._woken)
        except Exception as error:
            self._failure = str(error)
            logger.exception("a handler process could not be started")

    def _lose(self) -> str:
        """Take the present process for ended; return how it ended."""
        process = self._process
        assert process is not None
        with self._kill_lock:
            self._killable = self._process = None
        return process.reap()

    def _replace(self) -> None:
        """Start another process in place of the present one, which has ended or has run enough."""
        process = self._process
        self._start()
        if process is not None:
            self._finish(process)

    def _finish(self, process: HandlerProcess) -> None:
        process.finish(lambda message: self._handle(process, message, None))

    def _is_fit(self) -> bool:
        """Return whether the process can run another handler."""
        process, max_jobs, max_memory = self._process, self._options.max_jobs, self._options.max_memory
        return (
            process is not None
            and process.ready
            and (max_jobs is None or process.runs < max_jobs)
            and (max_memory is None or process.memory <= max_memory)
        )

    def _carry_out(self, run: Run) -> Outcome:
        """Run a handler; return how it ended."""
        try:
            return self._try_processes(run)
        except Exception as error:
            logger.exception("a handler process could not be served and is killed")
            if self._process is not None:
                self._lose()
            return Lost(f"its handler process could not be served: {error}", told=run.stop is not None)

    def _try_processes(self, run: Run) -> Outcome:
        how = ""
        for _ in range(TRIES):
            if self._process is None:
                self._start()
            process = self._process
            if process is None:
                break
            with self._kill_lock:
                self._killable = run
            talk = ProcessRun(process, run, self._options)
            outcome = talk.hold(self._handle)
            with self._kill_lock:
                self._killable = None
            if outcome is not None:
                return outcome
            how = self._lose()
            if talk.begun or talk.asked:
                return Lost(f"the handler process {how}", told=run.stop is not None)
            how = f"the handler process {how} before it could call the handler"
            logger.warning("%s (%d)", how, process.pid)
            if not process.ready:
                break  # another one would not be either
        return Lost(f"{how or 'no handler process could be started'}: {self._failure}".rstrip(": "))
