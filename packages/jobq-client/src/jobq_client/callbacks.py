"""`Callbacks`: calls functions that users passed in, whose errors stop nothing but themselves."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from jobq_core.events import is_cancellation

MAX_UNFINISHED: Final = 1000
"""Maximum number of unfinished calls of async functions; further calls are skipped, as some of them hang."""


class Callbacks:
    """Calls sync and async functions. An async one runs in a task of its own; nothing waits for it.

    Every exception is logged, CancelledError and SystemExit included; only KeyboardInterrupt is raised.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._tasks: set[asyncio.Task[None]] = set()
        self._skipping = False

    def call(self, what: str, function: Callable[..., object | Awaitable[object]], *args: Any) -> None:
        """Call a function. what: the noun of the log message, such as 'a progress callback'."""
        try:
            returned = function(*args)
            if not inspect.isawaitable(returned):
                return
        except KeyboardInterrupt:
            raise
        except BaseException:
            self._logger.exception("%s failed", what)
            return
        if len(self._tasks) < MAX_UNFINISHED:
            self._skipping = False
            task = asyncio.create_task(self._wait(what, returned))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        if inspect.iscoroutine(returned):
            returned.close()
        if not self._skipping:
            self._skipping = True
            self._logger.error("%s is skipped: %d earlier calls have not finished", what, MAX_UNFINISHED)

    async def _wait(self, what: str, returned: Awaitable[object]) -> None:
        try:
            await returned
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or is_cancellation(error):
                raise
            self._logger.exception("%s failed", what)
