"""Signals in a handler process: those from outside are ignored, and a stop interrupts the handler by one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from jobq_core.errors import AbortSignalJobError

IGNORED: Final = (signal.SIGTERM, signal.SIGINT)
"""Signals that a service manager or a terminal sends to all processes: the worker decides when a handler must stop."""
REPEAT_SECONDS: Final = 0.02
"""Time after which a signal is sent again that the main thread has not handled."""


class ProcessSignals:
    """Ignores signals, and interrupts a handler in the main thread on request.

    forked: called in each process that is forked from this one. Such processes get the default behaviour, as those have
    that a handler starts afresh.
    """

    def __init__(self, forked: Callable[[], None]) -> None:
        self._forked = forked
        self._inside: object = None
        self._interrupted: object = None
        self._mask: set[signal.Signals | int] = set()

    def install(self) -> None:
        """Ignore signals from now on."""
        for number in IGNORED:
            signal.signal(number, self._take)
        os.register_at_fork(before=self._block, after_in_parent=self._unblock, after_in_child=self._reset)

    @contextmanager
    def interruptible(self, run: object) -> Generator[None]:
        """Mark the time in which `interrupt` may raise in the main thread."""
        try:
            self._inside = run
            yield
        finally:
            self._inside = None

    def interrupt(self, run: object) -> None:
        """Raise AbortSignalJobError in the handler of a run, if it still goes on. Called in another thread.

        The signal is sent until it is handled: one that arrives just before a system call, such as the call in
        `time.sleep`, does not interrupt it.
        """
        self._interrupted = run
        while self._interrupted is run:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            time.sleep(REPEAT_SECONDS)

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        run, self._interrupted = self._interrupted, None
        if run is not None and run is self._inside:
            raise AbortSignalJobError("the run was asked to stop")

    def _block(self) -> None:
        """Let a forked process get no signal before it has the default behaviour."""
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)

    def _unblock(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _reset(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._forked()
        self._unblock()
