"""Middleware: context managers around each run of a handler, which see its result and its exception.

The chain of a kind is made once, when the worker starts: a worker without middleware calls its handlers directly.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, TypeAlias

import attrs

from jobq_core.context import JobContext
from jobq_core.job import Job
from jobq_core.middleware import GeneratorMiddleware
from jobq_worker.around.handler_portal import HandlerPortal

Opened: TypeAlias = AbstractContextManager[Any] | AbstractAsyncContextManager[Any]
MiddlewareFunction: TypeAlias = Callable[[Job[Any], JobContext], Iterator[None] | AsyncIterator[None] | Opened]
Call: TypeAlias = Callable[..., Any]
"""Calls a handler with its job and its context: returns the result, or a coroutine of it."""


@attrs.frozen
class Middleware:
    """One function given to `@worker.middleware`."""

    function: MiddlewareFunction
    name: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "name", getattr(self.function, "__qualname__", repr(self.function)))

    def open(self, job: Job[Any], context: JobContext) -> Opened:
        """Return the context manager of one run."""
        made: Any = self.function(job, context)
        if inspect.isasyncgen(made):
            return _AsyncGenerator(self.name, made, context)
        if inspect.isgenerator(made):
            return GeneratorMiddleware(self.name, made, lambda: context.result)
        if hasattr(type(made), "__aenter__") or hasattr(type(made), "__enter__"):
            return made  # type: ignore[no-any-return]
        if inspect.iscoroutine(made):
            made.close()
        raise TypeError(
            f"middleware {self.name} must be a generator function or return a context manager, not a "
            f"{type(made).__qualname__}"
        )


def around_async(middleware: Middleware, inner: Call) -> Call:
    """Return the call of an async handler with one middleware around it."""

    async def call(job: Job[Any], context: JobContext) -> Any:
        manager: Any = middleware.open(job, context)
        if hasattr(type(manager), "__aenter__"):
            async with manager:
                context.result = await inner(job, context)
        else:
            with manager:
                context.result = await inner(job, context)
        return context.result

    return call


def around_sync(middleware: Middleware, inner: Call, portal: HandlerPortal) -> Call:
    """Return the call of a handler in a thread with one middleware around it.

    portal: runs the context manager on the event loop, if it is an async one.
    """

    def call(job: Job[Any], context: JobContext) -> Any:
        manager: Any = middleware.open(job, context)
        if not hasattr(type(manager), "__enter__"):
            manager = portal.wrap(manager)
        with manager:
            context.result = inner(job, context)
        return context.result

    return call


class _AsyncGenerator:
    """An async generator as the context manager of one run; `yield` returns the result of what it is around."""

    def __init__(self, name: str, generator: AsyncGenerator[Any, Any], context: JobContext) -> None:
        self._name = name
        self._generator = generator
        self._context = context

    async def __aenter__(self) -> None:
        try:
            await anext(self._generator)
        except StopAsyncIteration:
            raise RuntimeError(f"middleware {self._name} ended without a yield") from None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, GeneratorExit):
            return False  # the interpreter discards the run, which can await nothing more
        try:
            if error is None:
                await self._generator.asend(self._context.result)
            else:
                await self._generator.athrow(error)
        except StopAsyncIteration as end:
            return error is not None and end is not error
        except BaseException as raised:
            if raised is not error:
                raise
            raised.__traceback__ = trace
            return False
        await self._generator.aclose()
        raise RuntimeError(f"middleware {self._name} yielded twice")
