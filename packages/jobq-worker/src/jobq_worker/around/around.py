"""`Around`: what a worker puts around its handlers, and the call of each handler with it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from jobq_core.codec import resolve
from jobq_core.errors import ConfigurationError
from jobq_core.job import JobDefinition
from jobq_core.reprs import short_repr
from jobq_worker.around.handler_portal import HandlerPortal
from jobq_worker.around.lifespan import Lifespan
from jobq_worker.around.middleware import Call, Middleware, around_async, around_sync
from jobq_worker.around.providers import Provider, Providers, Scope, make_provider
from jobq_worker.around.supplying import Called, with_resources


class Around:
    """The middleware of a worker, its lifespans, and the providers of its resources.

    Middleware and lifespans are in the order in which they were given: the first is the outermost.
    """

    def __init__(self) -> None:
        self.middleware: list[Middleware] = []
        self._lifespans: list[Any] = []
        self._providers = Providers()
        self.provided: list[tuple[Any, Scope]] = []
        """The functions that provide resources, with their scopes."""

    def add_middleware(self, function: Any) -> None:
        """Take a middleware; raises ConfigurationError for what cannot be one."""
        _check(function, "middleware", "job", "context")
        self.middleware.append(Middleware(function))

    def add_lifespan(self, function: Any) -> None:
        """Take a lifespan; raises ConfigurationError for what cannot be one."""
        _check(function, "lifespan")
        self._lifespans.append(function)

    def add_provider(self, function: Any, scope: Any) -> None:
        """Take a provider; raises ConfigurationError for what cannot be one, and for a second one of its type."""
        self._providers.add(make_provider(function, scope))
        self.provided.append((function, scope))

    def check(self, definition: JobDefinition) -> None:
        """Raise ConfigurationError if nothing provides a resource that the handler needs."""
        self._needed(definition)

    def lifespan(self, definitions: Iterable[JobDefinition]) -> Lifespan:
        """Return what is open while a worker runs these kinds: its lifespans, and the resources that the kinds need.

        Raises ConfigurationError as `check` does.
        """
        order = dict.fromkeys(provider for definition in definitions for provider in self._needed(definition))
        return Lifespan(self._lifespans, [each for each in order if each.scope == "worker"], self._providers)

    def call(self, definition: JobDefinition, portal: HandlerPortal, opened: Mapping[Provider, Any]) -> Called:
        """Return what to call with each job of a kind. opened: the open resources of the worker."""
        handler = definition.handler
        assert handler is not None  # the worker has no kind without a handler
        called = Called(handler, definition.wants_context)
        if definition.resources:
            called = with_resources(definition, _resolved(definition), self._providers, opened, portal)
        if not self.middleware:
            return called
        call = _with_context(called)
        for middleware in reversed(self.middleware):
            call = around_async(middleware, call) if definition.is_async else around_sync(middleware, call, portal)
        return Called(call, True)

    def _needed(self, definition: JobDefinition) -> list[Provider]:
        """Return the providers of all that a handler needs, each after those that it needs itself."""
        if not definition.resources:
            return []
        found = self._providers.of(_resolved(definition), f"job {definition.kind!r}")
        return self._providers.in_order(found.values())


def _check(function: Any, what: str, *arguments: str) -> None:
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise ConfigurationError(
            f"a {what} is a generator function, or returns a context manager; not {short_repr(function)}"
        )
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        raise ConfigurationError(f"a {what} takes ({', '.join(arguments)}), not {short_repr(function)}") from None


def _resolved(definition: JobDefinition) -> dict[str, Any]:
    """Return the types of a handler's resources; as text where they are imported for type checkers only."""
    resolved = dict(definition.resources)
    for name, hint in definition.resources.items():
        try:
            resolved[name] = resolve(hint, definition.job_type.__module__)
        except NameError:
            resolved[name] = getattr(hint, "__forward_arg__", hint)
    return resolved


def _with_context(called: Called) -> Call:
    """Return the call as a function of the job and the context."""
    function = called.function
    return function if called.wants_context else lambda job, _: function(job)
