"""The children of a supervisor as real processes, and the loop that waits for them and for signals."""

from __future__ import annotations

import contextlib
import logging
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Final

from jobq_worker.processes.link import first_message
from jobq_worker.processes.signals import STOPPING, SignalCounter
from jobq_worker.processes.supervisor import Supervisor

logger = logging.getLogger("jobq.worker")

CHILD_MODULE: Final = "jobq_worker.processes.child"
CLOSED_SECONDS: Final = 0.02
"""Interval between two looks at a child that has closed its link and so is about to end."""


class ChildProcess:
    """A spawned child. Nothing is forked: the child imports what it needs.

    module: the module that the child runs.
    """

    def __init__(self, number: int, task: Mapping[str, Any], module: str = CHILD_MODULE) -> None:
        self.link, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", module]
            try:
                self._popen: subprocess.Popen[bytes] = subprocess.Popen(command, stdin=theirs.fileno())
            except OSError:
                self.link.close()
                raise
        self.pid = self._popen.pid
        self.closed = False
        self._rest = b""
        with contextlib.suppress(OSError):  # it has ended already
            self.link.sendall(first_message(number, task))
        self.link.setblocking(False)

    def read(self) -> list[str]:
        received = b""
        with contextlib.suppress(OSError):
            while not self.closed:
                part = self.link.recv(65536)
                self.closed = not part
                received += part
        if self.closed or self._popen.returncode is not None:
            self.closed = True
            self.link.close()
        *messages, self._rest = (self._rest + received).split(b"\n")
        return [message.decode() for message in messages]

    def poll(self) -> int | None:
        return self._popen.poll()

    def send_signal(self, number: int) -> None:
        self._popen.send_signal(number)


class SupervisorLoop:
    """Runs a supervisor until its children have ended.

    changed: asked at each step whether the source has changed, so that the children must be restarted. stepped: called
        after each step.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        changed: Callable[[], bool] = lambda: False,
        stepped: Callable[[], None] = lambda: None,
    ) -> None:
        self._supervisor = supervisor
        self._changed = changed
        self._stepped = stepped
        self._stops: SimpleQueue[str] = SimpleQueue()
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)

    def stop(self, reason: str) -> None:
        """Stop the children, as `Supervisor.stop` does; may be called from another thread."""
        self._stops.put(reason)
        with contextlib.suppress(OSError):  # it is awake already, or has ended
            self._writing.send(b"\0")

    def run(self) -> int:
        """Run, and return the exit code."""
        try:
            while True:
                pause = self._supervisor.step()
                self._stepped()
                if self._supervisor.finished:
                    return self._supervisor.exit_code
                self._wait(pause)
        finally:
            self._reading.close()
            self._writing.close()

    def run_until_signal(self) -> int:
        """Run in the main thread, stop at SIGTERM and SIGINT, and return the exit code."""
        counter = SignalCounter()

        def receive(number: int, _frame: FrameType | None) -> None:
            if counter.add():
                self.stop(signal.Signals(number).name)

        before = {number: signal.signal(number, receive) for number in STOPPING}
        try:
            return self.run()
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _wait(self, pause: float) -> None:
        children = [child for child in self._supervisor.processes() if isinstance(child, ChildProcess)]
        if any(child.closed for child in children):
            pause = min(pause, CLOSED_SECONDS)
        with selectors.DefaultSelector() as selector:
            for readable in (self._reading, *(child.link for child in children if not child.closed)):
                selector.register(readable, selectors.EVENT_READ)
            selector.select(pause)
        with contextlib.suppress(BlockingIOError):
            self._reading.recv(256)
        with contextlib.suppress(Empty):
            while True:
                self._supervisor.stop(self._stops.get_nowait())
        if self._changed():
            logger.info("the source has changed; restarting the processes")
            self._supervisor.reload()
