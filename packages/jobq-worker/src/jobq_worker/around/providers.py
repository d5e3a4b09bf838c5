"""Providers: the functions given to `@worker.provides`, found by the type that they return."""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Literal, TypeAlias

import attrs

from jobq_core.context import JobContext
from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr
from jobq_core.signatures import read_hints

Scope: TypeAlias = Literal["worker", "run"]
SCOPES: Final = typing.get_args(Scope)

_YIELDING: Final = (AsyncGenerator, AsyncIterator, Generator, Iterator)


@attrs.frozen(eq=False)
class Provider:
    """One provider. needs: the types of its parameters by name, which it gets from the other providers.

    function: returns the resource, or an awaitable of it, or, where `is_manager`, a context manager that opens it.
    """

    provides: Any
    function: Callable[..., Any]
    name: str
    scope: Scope
    is_async: bool
    is_manager: bool
    needs: Mapping[str, Any]


def make_provider(function: Any, scope: Any) -> Provider:
    """Return the provider of a function; raises ConfigurationError for a function that cannot be one."""
    if scope not in SCOPES:
        raise ConfigurationError(f"the scope of a resource is 'worker' or 'run', not {short_repr(scope)}")
    if not callable(function) or inspect.isclass(function):
        raise ConfigurationError(f"@worker.provides decorates a function, not {short_repr(function)}")
    name = getattr(function, "__qualname__", repr(function))
    hints = read_hints(function)
    written = hints.pop("return", inspect.Parameter.empty)
    bare = _generator_of(function)
    is_manager = bare is not None
    provides = _yielded(written) if is_manager else written
    if isinstance(written, str):
        raise ConfigurationError(
            f"provider {name}: its return annotation {written!r} names a type that its module does not have: define or "
            "import the type there, outside of functions and of `if TYPE_CHECKING:`"
        )
    if provides in (inspect.Parameter.empty, None, type(None), Any):
        raise ConfigurationError(
            f"provider {name}: its return annotation says which type it provides, as in `def {name}() -> Pool`"
        )
    if bare is None:
        return Provider(provides, function, name, scope, inspect.iscoroutinefunction(function), False, _needs(function))
    is_async = inspect.isasyncgenfunction(bare)
    manager = asynccontextmanager(bare) if is_async else contextmanager(bare)
    return Provider(provides, manager, name, scope, is_async, True, _needs(function))


def _generator_of(function: Any) -> Any:
    """Return the generator function that a function is, or that `contextmanager` made it of; None for others."""
    while function is not None:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            return function
        function = getattr(function, "__wrapped__", None)
    return None


def _yielded(annotation: Any) -> Any:
    if typing.get_origin(annotation) in _YIELDING:
        return typing.get_args(annotation)[0]
    return inspect.Parameter.empty


def _needs(function: Any) -> dict[str, Any]:
    hints = read_hints(function)
    parameters = inspect.signature(function).parameters.values()
    needs = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    for name in needs:
        if name not in hints:
            raise ConfigurationError(
                f"provider {getattr(function, '__qualname__', function)}: its parameter {name!r} needs the type of "
                "another resource"
            )
    return {name: hints[name] for name in needs}


class Providers:
    """All providers of a worker, by type."""

    def __init__(self) -> None:
        self._by_type: dict[Any, Provider] = {}

    def add(self, provider: Provider) -> None:
        """Take a provider; raises ConfigurationError if another one provides its type."""
        other = self._by_type.setdefault(provider.provides, provider)
        if other is not provider:
            raise ConfigurationError(f"{other.name} and {provider.name} both provide {type_text(provider.provides)}")

    def find(self, wanted: Any) -> Provider | None:
        """Return the provider of a type. A type that is known by its name alone, since it is imported for type checkers
        only, is found by that."""
        if not isinstance(wanted, str):
            return self._by_type.get(wanted)
        name = wanted.rpartition(".")[2]
        found = [each for each in self._by_type.values() if getattr(each.provides, "__name__", None) == name]
        return found[0] if len(found) == 1 else None

    def of(self, resources: Mapping[str, Any], user: str) -> dict[str, Provider]:
        """Return the provider for each of these parameters.

        user: who has the parameters, for errors. Raises ConfigurationError for a type that nothing provides.
        """
        found = {}
        for name, wanted in resources.items():
            provider = self.find(wanted)
            if provider is None:
                raise ConfigurationError(
                    f"{user}: nothing provides {type_text(wanted)} for its parameter {name!r}: add a function that "
                    "returns one with @worker.provides; an argument of the job needs a type with a JSON form"
                )
            found[name] = provider
        return found

    def needs_of(self, provider: Provider) -> dict[str, Provider | None]:
        """Return the provider for each parameter of a provider; None for the JobContext."""
        types = {name: wanted for name, wanted in provider.needs.items() if wanted is not JobContext}
        return {**dict.fromkeys(provider.needs), **self.of(types, f"provider {provider.name}")}

    def in_order(self, providers: Iterable[Provider], path: tuple[Provider, ...] = ()) -> list[Provider]:
        """Return these providers and all that they need, each once and after those that it needs.

        Raises ConfigurationError for providers that need each other, or what they cannot have.
        """
        order: dict[Provider, None] = {}
        for provider in providers:
            if provider in path:
                circle = " → ".join(each.name for each in (*path[path.index(provider) :], provider))
                raise ConfigurationError(f"providers need each other in a circle: {circle}")
            needed = self.needs_of(provider)
            for name, other in needed.items():
                if provider.scope == "worker" and (other is None or other.scope == "run"):
                    raise ConfigurationError(
                        f"provider {provider.name} is opened once per worker, and its parameter {name!r} is made for "
                        "each run: give the provider scope='run' too"
                    )
            others = [other for other in needed.values() if other is not None]
            order |= dict.fromkeys([*self.in_order(others, (*path, provider)), provider])
        return list(order)


def type_text(wanted: Any) -> str:
    """Return how an error names a type."""
    return getattr(wanted, "__qualname__", None) or str(wanted)
