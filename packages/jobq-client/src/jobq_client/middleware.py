"""Middleware of a client: generators around each `add`, which may change its options and see its handle."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, cast

from jobq_client.base_handle import BaseJobHandle
from jobq_core.adding import AddOptions
from jobq_core.errors import ConfigurationError
from jobq_core.job import Job
from jobq_core.middleware import GeneratorMiddleware
from jobq_core.reprs import short_repr

AddMiddleware: TypeAlias = Callable[[Job[Any], AddOptions], Iterator[None]]


class AddCall:
    """One add with the middleware around it. handle: what the middleware gets; set it inside `with`."""

    def __init__(self, functions: list[AddMiddleware], job: Job[Any], options: AddOptions) -> None:
        self._functions = functions
        self._job = job
        self._options = options
        self._stack = ExitStack()
        self.handle: BaseJobHandle[Any] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for function in self._functions:
                stack.enter_context(_Around(self, function, self._job, self._options))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


class _Around(GeneratorMiddleware):
    """One generator around one add. An exception that it catches is raised all the same: there is no handle then."""

    def __init__(self, call: AddCall, function: AddMiddleware, job: Job[Any], options: AddOptions) -> None:
        generator = cast(Generator[None, Any, None], function(job, options))
        name = getattr(function, "__qualname__", repr(function))
        super().__init__(name, generator, lambda: call.handle, consequence="; nothing was added")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        super().__exit__(kind, error, trace)
        return False


def check_middleware(function: Any) -> None:
    """Raise ConfigurationError for what is not a generator function of a job and its options."""
    if not inspect.isgeneratorfunction(function):
        raise ConfigurationError(f"a middleware of a client is a generator function, not {short_repr(function)}")
    try:
        inspect.signature(function).bind("job", "options")
    except TypeError:
        raise ConfigurationError(f"a middleware of a client takes (job, options), not {short_repr(function)}") from None
