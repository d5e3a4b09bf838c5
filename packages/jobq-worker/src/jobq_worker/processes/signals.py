"""SIGTERM and SIGINT: received in a thread, so that they stop a worker whatever its event loop does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, Self

from jobq_worker.processes.stop_guard import StopGuard

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
SAME_SECONDS: Final = 1.0
"""Signals that follow a counted one within this time count as the same: systemd signals each process of a unit, and
`uv run` passes on to its child what both have received."""
CHECK_SECONDS: Final = 0.25
"""Interval between two checks of a stop that is under way."""


class SignalCounter:
    """Counts signals, those that come within SAME_SECONDS of a counted one as the same."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = float("-inf")
        self.count = 0

    def add(self) -> bool:
        """Record a signal; return whether it counts."""
        now = self._clock()
        if now - self._last < SAME_SECONDS:
            return False
        self._last = now
        self.count += 1
        return True


class Signals:
    """Counts SIGTERM and SIGINT inside `with`, for one worker. Outside the main thread no signal is received.

    guard: takes each signal that counts.
    """

    def __init__(self, guard: StopGuard) -> None:
        self._loop = asyncio.get_running_loop()
        self._guard = guard
        self._counter = SignalCounter()
        self._seen = 0
        self._changed = asyncio.Event()
        self._receiver: Receiver | None = None

    async def wait(self, count: int = 1) -> None:
        """Wait until so many signals have been received."""
        while self._seen < count:
            self._changed.clear()
            await self._changed.wait()

    def take(self, number: int) -> None:
        """Take a signal in; called in the receiver's thread."""
        if self._counter.add():
            self._guard.asked(signal.Signals(number).name)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._see, self._counter.count)

    def check(self) -> None:
        """Look whether a stop that is under way must be ended by force; called several times a second."""
        if self._counter.count:
            self._guard.check()

    def _see(self, count: int) -> None:
        self._seen = count
        self._changed.set()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._receiver = Receiver.join(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._receiver is not None:
            self._receiver.leave(self)


class Receiver:
    """Receives the signals of the process for all workers that serve in it.

    The interpreter writes each signal to a socket at once (`signal.set_wakeup_fd`), even while its main thread is in a
    call that does not return. A thread reads it. Other signals are passed on to the socket that they went to before.
    """

    active: Receiver | None = None
    """The one whose handlers are installed."""

    def __init__(self, first: Signals) -> None:
        self._all: tuple[Signals, ...] = (first,)
        self._reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)
        # Before the handlers: a signal that comes as soon as they are installed is received.
        self._forward_to = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._handle) for number in STOPPING}
        self._thread = threading.Thread(target=self._serve, name="jobq-signals", daemon=True)
        self._thread.start()
        Receiver.active = self

    @classmethod
    def join(cls, signals: Signals) -> Receiver:
        """Receive signals for this worker too; the first installs the handlers."""
        receiver = cls.active
        if receiver is None:
            return cls(signals)
        receiver._all = (*receiver._all, signals)
        return receiver

    def leave(self, signals: Signals) -> None:
        """Receive signals for this worker no more; the last restores the handlers."""
        self._all = tuple(other for other in self._all if other is not signals)
        if not self._all and Receiver.active is self:
            self._restore()

    def _restore(self) -> None:
        Receiver.active = None
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)
        signal.set_wakeup_fd(self._forward_to, warn_on_full_buffer=False)
        self._writing.shutdown(socket.SHUT_WR)
        self._writing.close()
        self._thread.join(CHECK_SECONDS)

    def _serve(self) -> None:
        with self._reading:  # closed here: the thread may read it for longer than it is waited for
            self._read()

    def _read(self) -> None:
        stopping = False
        while True:
            self._reading.settimeout(CHECK_SECONDS if stopping else None)
            try:
                numbers = self._reading.recv(256)
            except TimeoutError:
                numbers = None
            if numbers == b"":
                return
            for number in numbers or b"":
                if number in STOPPING:
                    stopping = True
                    for signals in self._all:
                        signals.take(number)
                else:
                    self._forward(number)
            for signals in self._all:
                signals.check()

    def _forward(self, number: int) -> None:
        if self._forward_to >= 0:
            with contextlib.suppress(OSError):
                os.write(self._forward_to, bytes([number]))

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        # The thread counts what the socket brings. Another wakeup descriptor that was set meanwhile gets the signals.
        before = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        if before != self._writing.fileno():
            self._forward_to = before
            self._writing.send(bytes([number]))


_masks = threading.local()
"""The signal mask of a thread that forks, as it was before."""


def _block_signals() -> None:
    """Let a child get no signal before it has its own handlers: it would write it to its parent's socket."""
    if Receiver.active is not None:
        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


def _unblock_signals() -> None:
    before = vars(_masks).pop("before", None)
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reset_in_child() -> None:
    """Give a forked child the default handlers: a child that is terminated must end, and its parent go on."""
    if Receiver.active is not None:
        Receiver.active = None
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _unblock_signals()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_block_signals, after_in_parent=_unblock_signals, after_in_child=_reset_in_child)
