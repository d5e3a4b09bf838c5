"""`Lifecycle`: how clients, workers, servers and queues start and stop.

Starting a running object does nothing, nor does stopping one that does not run. Of two calls at once, the second waits
for the first. A start that fails leaves nothing open. A running object belongs to the event loop and the process that
started it: in a forked child it does not run, and may be started there, with connections of its own.
"""

from __future__ import annotations

import abc
import asyncio
import os
from types import TracebackType
from typing import Self

from jobq_core.errors import ClosedError, ConfigurationError


class Lifecycle(abc.ABC):
    """An object that is started and stopped with `async with`, or `start()` and `stop()`, any number of times.

    Subclasses implement `_start` and `_stop`. `_start` cleans up after itself when it raises.
    """

    _noun = "object"
    """The name of the object in error messages, such as 'client'."""

    def __init__(self) -> None:
        super().__init__()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._changing = asyncio.Lock()

    @property
    def is_running(self) -> bool:
        """Whether it is started, in this process."""
        return self._loop is not None and not self._is_inherited()

    @property
    def event_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that it runs on; None while it does not run."""
        return self._loop if self.is_running else None

    async def start(self) -> None:
        """Start; does nothing if it runs. Raises ConfigurationError if it runs on another event loop."""
        self.leave_parent()
        if self._loop is not None:
            self._check_loop(self._loop)
        self._pid = os.getpid()
        async with self._changing:
            if self._loop is None:
                await self._start()
                self._loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        """Stop; does nothing if it does not run. Raises ConfigurationError if it runs on another event loop."""
        if self.leave_parent():
            return
        if self._loop is not None:
            self._check_loop(self._loop)
        async with self._changing:
            if self._loop is not None:
                self._loop = None
                await self._stop()

    def _check_running(self) -> None:
        """Raise ClosedError unless it runs, ConfigurationError unless it runs on the caller's event loop."""
        if self._loop is None:
            raise self._not_running()
        self._check_loop(self._loop)

    def _not_running(self) -> ClosedError:
        return ClosedError(f"the {self._noun} is not running: use it inside `async with`, or call start() first")

    def _check_loop(self, own: asyncio.AbstractEventLoop) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is not own:
            if self._is_inherited():
                raise ConfigurationError(
                    f"the {self._noun} was started in another process; nothing was sent. Start a {self._noun} of its "
                    "own in each process, after the fork"
                )
            where = "outside an event loop" if loop is None else "on another event loop"
            raise ConfigurationError(
                f"the {self._noun} is used {where}, and belongs to the event loop that started it; nothing was sent. "
                f"Start a {self._noun} of its own in each event loop (each asyncio.run, each thread)"
            )

    def leave_parent(self) -> bool:
        """Forget, in a forked child, what the parent process started or is starting. Returns whether there was any.

        Nothing is closed, sent or waited for, so the parent is not disturbed.
        """
        if not self._is_inherited():
            return False
        self._loop, self._pid = None, 0
        self._changing = asyncio.Lock()
        self._abandon()
        return True

    def _is_inherited(self) -> bool:
        return self._pid not in (0, os.getpid())

    def _abandon(self) -> None:  # noqa: B027 (optional)
        """Forget what `_start` made, without closing it."""

    @abc.abstractmethod
    async def _start(self) -> None: ...

    @abc.abstractmethod
    async def _stop(self) -> None: ...

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
