"""`Lifespan`: what is open from a worker's start to the end of its stop: its lifespans, and its resources."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, Final, TypeAlias

from jobq_worker.around.providers import Provider, Providers
from jobq_worker.around.supplying import open_resource

logger = logging.getLogger("jobq.worker")

CLOSE_SECONDS: Final = 30.0
"""Time that lifespans and resources have to close, after which their task is cancelled."""

LifespanFunction: TypeAlias = Callable[
    [],
    AsyncIterator[None] | Iterator[None] | AbstractAsyncContextManager[Any] | AbstractContextManager[Any],
]


class Lifespan:
    """Opens the lifespans in order, then the resources, in one task, which closes them in the reverse order.

    opened: the open resources.
    """

    def __init__(self, functions: Sequence[Callable[[], Any]], order: Sequence[Provider], providers: Providers) -> None:
        self._functions = functions
        self._order = order
        self._providers = providers
        self._ready = asyncio.Event()
        self._leave = asyncio.Event()
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None
        self.opened: dict[Provider, Any] = {}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to open."""
        return not self._functions and not self._order

    async def open(self) -> None:
        """Open all. Raises what one of them raises, after closing those before it."""
        if self.is_empty:
            return
        self._task = asyncio.get_running_loop().create_task(self._serve(), name="jobq lifespan")
        try:
            await self._ready.wait()
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise
        if self._error is not None:
            await asyncio.wait([self._task])
            raise self._error

    async def close(self) -> None:
        """Close all that is open, in CLOSE_SECONDS. Raises what one of them raises, which is logged too."""
        if self._task is None:
            return
        self._leave.set()
        _, late = await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
        if late:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)
            self._error = TimeoutError(f"the lifespans of the worker did not close in {CLOSE_SECONDS:g} s")
        self._task = None
        if isinstance(self._error, Exception):
            raise self._error
        if self._error is not None:  # a SystemExit must not end the event loop here
            raise RuntimeError(f"a lifespan or a resource raised {type(self._error).__name__}") from self._error

    async def _serve(self) -> None:
        """Open, wait, and close. Errors are kept as a value: a SystemExit must not end the event loop."""
        try:
            async with AsyncExitStack() as stack:
                for function in self._functions:
                    await _enter(function, stack)
                for provider in self._order:
                    needed = self._providers.needs_of(provider)
                    arguments = {name: self.opened[other] for name, other in needed.items() if other is not None}
                    self.opened[provider] = await open_resource(provider, arguments, stack)
                self._ready.set()
                await self._leave.wait()
        except BaseException as error:
            self._error = error
            if self._ready.is_set() and not isinstance(error, asyncio.CancelledError):
                logger.exception("a lifespan or a resource of the worker failed to close")
        finally:
            self._ready.set()


async def _enter(function: Callable[[], Any], stack: AsyncExitStack) -> None:
    if inspect.isasyncgenfunction(function):
        opened: Any = asynccontextmanager(function)()
    elif inspect.isgeneratorfunction(function):
        opened = contextmanager(function)()
    else:
        opened = function()
    if hasattr(type(opened), "__aenter__"):
        await stack.enter_async_context(opened)
    elif hasattr(type(opened), "__enter__"):
        stack.enter_context(opened)
    else:
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(f"lifespan {name} must be a generator function or return a context manager")
