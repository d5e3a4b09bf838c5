"""Waiting for SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from types import TracebackType
from typing import Any, Self

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Counts SIGTERM and SIGINT inside `with`. Outside the main thread no signal is received."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._count = 0
        self._changed = asyncio.Event()
        self._before: dict[signal.Signals, Any] = {}

    async def wait(self, count: int = 1) -> None:
        """Wait until so many signals have been received."""
        while self._count < count:
            self._changed.clear()
            await self._changed.wait()

    def _received(self) -> None:
        self._count += 1
        self._changed.set()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                self._before[number] = signal.getsignal(number)
                try:
                    self._loop.add_signal_handler(number, self._received)
                except NotImplementedError:  # Windows, whose event loops take no signal handlers
                    signal.signal(number, lambda *_: self._loop.call_soon_threadsafe(self._received))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            with contextlib.suppress(NotImplementedError):
                self._loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL if before is None else before)
