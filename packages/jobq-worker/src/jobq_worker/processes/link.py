"""The link of a child to its supervisor: a socket in the place of standard input.

The supervisor sends the child's number and task; the child reports that its event loop answers. The socket closes when
the supervisor ends, even by SIGKILL; the child then stops as on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from jobq_worker.processes.signals import STOPPING
from jobq_worker.processes.supervised import BEAT, DONE, ENDED, LOAD, READY

logger = logging.getLogger("jobq.worker")

BEATS: Final = 10
"""How many times in lost_after seconds a child reports that its event loop answers."""
MAX_MESSAGE: Final = 1 << 20
"""Maximum size of the first message, in bytes: arguments are smaller on every system."""


def stop_process() -> None:
    """Stop this process as SIGTERM does."""
    os.kill(os.getpid(), signal.SIGTERM)


class Link:
    """A child's end. number: the child's, from 1. task: what the child has to run.

    stop: called, in another thread, when the supervisor is gone.
    """

    def __init__(self, end: socket.socket, stop: Callable[[], None] = stop_process) -> None:
        self._end = end
        self._stop = stop
        first = self._read_first()
        self.number: int = first["number"]
        self.task: dict[str, Any] = first["task"]
        threading.Thread(target=self._wait_for_end, name="jobq-supervisor-link", daemon=True).start()

    @classmethod
    def take_over(cls, stop: Callable[[], None] = stop_process) -> Link:
        """Take the link from standard input, which then is empty: handlers and their subprocesses must not have it."""
        end = socket.socket(fileno=os.dup(0))
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        return cls(end, stop)

    def serve(self, lost_after: float, stop_timeout: float) -> None:
        """Report that the worker has started, and then, several times in lost_after, that the event loop answers."""
        self._send(f"{READY} {lost_after} {stop_timeout}")
        self._beat(asyncio.get_running_loop(), lost_after / BEATS)

    def _beat(self, loop: asyncio.AbstractEventLoop, interval: float) -> None:
        self._send(BEAT)
        loop.call_later(interval, self._beat, loop, interval)

    def report(self, load: Mapping[str, Any]) -> None:
        """Report what the worker has to do. load: values that JSON has."""
        self._send(f"{LOAD} {json.dumps(load)}")

    def end(self, *, done: bool) -> None:
        """Report that the worker has stopped, and ignore later signals. done: whether the child needs no restart."""
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                signal.signal(number, signal.SIG_IGN)
        self._send(DONE if done else ENDED)

    def _send(self, message: str) -> None:
        """Send a message; a supervisor that is paused or gone holds nothing up."""
        with contextlib.suppress(OSError):
            self._end.send(message.encode() + b"\n", socket.MSG_DONTWAIT)

    def _wait_for_end(self) -> None:
        with contextlib.suppress(OSError):
            while self._end.recv(4096):
                pass
        logger.warning("the supervisor of this process is gone; stopping as on SIGTERM")
        self._end.close()
        self._stop()

    def _read_first(self) -> dict[str, Any]:
        line = b""
        while not line.endswith(b"\n") and len(line) < MAX_MESSAGE:
            received = self._end.recv(4096)
            if not received:
                self._end.close()
                raise SystemExit(0)  # the supervisor is gone already
            line += received
        found: dict[str, Any] = json.loads(line)
        return found


def first_message(number: int, task: Mapping[str, Any]) -> bytes:
    """Return what the supervisor sends to a child. task: values that JSON has."""
    return json.dumps({"number": number, "task": dict(task)}).encode() + b"\n"
