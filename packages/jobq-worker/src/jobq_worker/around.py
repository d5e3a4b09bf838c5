"""`Around`: what a worker puts around its handlers, and the call of each handler with it."""

from __future__ import annotations

import inspect
from typing import Any

from jobq_core.errors import ConfigurationError
from jobq_core.job import JobDefinition
from jobq_core.reprs import short_repr
from jobq_worker.middleware import Call, Middleware, around_async, around_sync
from jobq_worker.portal import Portal


class Around:
    """The middleware of a worker, in the order in which it was given: the first is the outermost."""

    def __init__(self) -> None:
        self._middleware: list[Middleware] = []

    def add_middleware(self, function: Any) -> None:
        """Take a middleware; raises ConfigurationError for what cannot be one."""
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise ConfigurationError(
                f"a middleware is a generator function, or returns a context manager; not {short_repr(function)}"
            )
        try:
            inspect.signature(function).bind("job", "context")
        except TypeError:
            raise ConfigurationError(f"a middleware takes (job, context), not {short_repr(function)}") from None
        self._middleware.append(Middleware(function))

    def check(self, definition: JobDefinition) -> None:
        """Raise ConfigurationError if the worker lacks something that the handler needs."""

    def call(self, definition: JobDefinition, portal: Portal) -> Call | None:
        """Return what to call with each job of a kind and its context; None if nothing is around its handler."""
        if not self._middleware:
            return None
        call = _with_context(definition)
        for middleware in reversed(self._middleware):
            call = around_async(middleware, call) if definition.is_async else around_sync(middleware, call, portal)
        return call


def _with_context(definition: JobDefinition) -> Call:
    """Return the handler as a function of the job and the context, whether or not it takes the context."""
    handler = definition.handler
    assert handler is not None  # the worker has no kind without a handler
    return handler if definition.wants_context else lambda job, _: handler(job)
