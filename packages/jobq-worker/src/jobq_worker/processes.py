"""The children of a supervisor as real processes, and the loop that waits for them and for signals."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Final

from jobq_worker.link import first_message
from jobq_worker.signals import STOPPING, SignalCounter
from jobq_worker.supervisor import Supervisor

logger = logging.getLogger("jobq.worker")

CLOSED_SECONDS: Final = 0.02
"""Interval between two looks at a child that has closed its link and so is about to end."""


class ChildProcess:
    """A spawned child. Nothing is forked: the child imports what it needs."""

    def __init__(self, number: int, arguments: Sequence[str]) -> None:
        self.link, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "jobq_worker.child"]
            self._popen: subprocess.Popen[bytes] = subprocess.Popen(command, stdin=theirs.fileno())
        self.pid = self._popen.pid
        self.closed = False
        with contextlib.suppress(OSError):  # it has ended already
            self.link.sendall(first_message(number, list(arguments)))
        self.link.setblocking(False)

    def read(self) -> bytes:
        received = b""
        with contextlib.suppress(OSError):
            while not self.closed:
                part = self.link.recv(65536)
                self.closed = not part
                received += part
        if self.closed or self._popen.returncode is not None:
            self.closed = True
            self.link.close()
        return received

    def poll(self) -> int | None:
        return self._popen.poll()

    def send_signal(self, number: int) -> None:
        self._popen.send_signal(number)


def supervise(supervisor: Supervisor, changed: Callable[[], bool] | None = None) -> int:
    """Run a supervisor until its children have ended; return the exit code.

    changed: asked at each step whether the source has changed, so that the children must be restarted.
    """
    counter = SignalCounter()
    with _signals() as received:
        while True:
            pause = supervisor.step()
            if supervisor.finished:
                return supervisor.exit_code
            children = [child for child in supervisor.processes() if isinstance(child, ChildProcess)]
            if any(child.closed for child in children):
                pause = min(pause, CLOSED_SECONDS)
            wait([received, *(child.link for child in children if not child.closed)], pause)
            with contextlib.suppress(BlockingIOError):
                for number in received.recv(256):
                    if number in STOPPING and counter.add():
                        supervisor.stop(signal.Signals(number).name)
            if changed is not None and changed():
                logger.info("the source has changed; restarting the processes")
                supervisor.reload()


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """Receive SIGTERM and SIGINT as bytes on a socket."""
    reading, writing = socket.socketpair()
    with reading, writing:
        reading.setblocking(False)
        writing.setblocking(False)
        before = {number: signal.signal(number, lambda _number, _frame: None) for number in STOPPING}
        descriptor = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(descriptor)
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
