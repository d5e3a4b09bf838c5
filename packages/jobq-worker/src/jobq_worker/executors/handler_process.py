"""`HandlerProcess`: a process that runs handlers, seen from the worker.

It is started afresh (spawned, never forked from the worker, which has threads and an event loop), in a process group of
its own: a kill takes the processes that a handler has started along, and Ctrl-C in a terminal does not reach it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from jobq_worker.executors.messages import Channel, FromProcess, Setup, ToProcess

_START: Final = (
    "import os, sys; sys.path[:] = sys.argv.pop().split(os.pathsep); "
    "from jobq_worker.executors.process_main import main; main(int(sys.argv.pop()))"
)
"""What the process does first: it takes the worker's import path, and then its end of the connection."""
END_SECONDS: Final = 5.0
"""Time that a process has to end by itself when it is closed."""


class HandlerProcess:
    """A process and the connection to it. One thread uses it; `kill` may be called from others while it is open.

    wake: a socket, not blocking, that interrupts `wait` when something is sent to it.
    """

    def __init__(self, setup: Setup, wake: socket.socket) -> None:
        from multiprocessing.spawn import get_executable  # a program that embeds Python may have set it

        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(os.fsdecode(get_executable()), *subprocess._args_from_interpreter_flags()),  # type: ignore[attr-defined]
                    *("-c", _START, str(theirs.fileno()), os.pathsep.join(sys.path)),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self.pid = self._process.pid
        self.ready = False
        """Whether it has imported its handlers."""
        self.runs = 0
        """The number of runs that have ended in it."""
        self.memory = 0
        """Bytes that it held after the last run."""
        self._wake = wake
        self._channel = Channel(ours, FromProcess)
        self._exit_file = _open_exit_file(self.pid)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._channel, selectors.EVENT_READ, "message")
        self._selector.register(wake, selectors.EVENT_READ, "wake")
        if self._exit_file is not None:
            self._selector.register(self._exit_file, selectors.EVENT_READ, "exit")
        self.send(setup)

    def send(self, message: ToProcess) -> None:
        """Send a message; a process that is gone takes none."""
        with contextlib.suppress(OSError):
            self._channel.send(message)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a message, the end of the process, or something sent to `wake`; False after `timeout` seconds."""
        ready = [key.data for key, _ in self._selector.select(timeout)]
        if "wake" in ready:
            with contextlib.suppress(BlockingIOError):
                while self._wake.recv(64):
                    pass
        return bool(ready)

    def receive(self) -> Any:
        """Return a message that has come, False if there is none, or None if the process has ended."""
        ready = [key.data for key, _ in self._selector.select(0)]
        if "message" in ready:
            return self._channel.receive()
        return None if "exit" in ready else False

    def kill(self) -> None:
        """Kill the process, and the processes in its group, with SIGKILL."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> str:
        """Kill what is left of an ended process, and return how it ended: 'was ended by SIGSEGV'."""
        self.kill()
        self._release()
        return how_it_ended(self._process.wait())

    def finish(self, handle: Callable[[object], None]) -> None:
        """Let an idle process close its resources and end, and kill it if it does not within END_SECONDS.

        handle: called with the messages that it sends meanwhile.
        """
        self._channel.end()
        self._selector.unregister(self._wake)
        ends = time.monotonic() + END_SECONDS
        while self.wait(max(ends - time.monotonic(), 0.0)):
            message = self.receive()
            if message is None:
                break
            handle(message)
        try:
            self._process.wait(max(ends - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._release()

    def _release(self) -> None:
        self._selector.close()
        self._channel.close()
        if self._exit_file is not None:
            os.close(self._exit_file)
            self._exit_file = None


def _open_exit_file(pid: int) -> int | None:
    """Return a descriptor that is readable when the process has ended; None where the system has none.

    A closed connection says the same, unless a process that the handler has forked keeps it open.
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def how_it_ended(code: int) -> str:
    """Describe an exit code of `subprocess`: 'was ended by SIGSEGV', 'exited with code 3'."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (the kernel does this when memory runs out)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"
