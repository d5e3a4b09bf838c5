"""What `@job` reads from a function's signature: its types, its context, and whether it returns a coroutine."""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from jobq_core.context import JobContext
from jobq_core.errors import ConfigurationError


class UntypedArgumentWarning(UserWarning):
    """A declared job has a parameter without a type, so that some values of it would arrive as another type."""


def read_hints(func: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations as types; one that names a type which is not defined yet stays as it is written."""
    func = _annotated(func)
    try:
        return typing.get_type_hints(func, include_extras=True)
    except NameError:
        pass
    names = getattr(inspect.unwrap(func), "__globals__", {})
    hints: dict[str, Any] = {}
    for name, annotation in func.__annotations__.items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= typing.get_type_hints(holder, globalns=names, include_extras=True)
        except NameError:
            hints[name] = annotation
    return hints


def _annotated(func: Any) -> Any:
    while isinstance(func, functools.partial):
        func = func.func
    return func if hasattr(func, "__annotations__") else type(func).__call__


def is_context(hint: Any) -> bool:
    """Return whether a type is JobContext, by name where it is imported for type checkers only."""
    if isinstance(hint, str):
        return hint.rpartition(".")[2] == JobContext.__name__
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    return hint is JobContext


def mentions_context(hint: Any) -> bool:
    """Return whether a type is or contains JobContext."""
    if isinstance(hint, str):
        return re.search(rf"\b{JobContext.__name__}\b", hint) is not None
    return is_context(hint) or any(mentions_context(part) for part in typing.get_args(hint))


def check_runnable(func: Any, kind: str) -> None:
    """Refuse, with ConfigurationError, a lambda, a generator and a singledispatch function."""
    if getattr(func, "__name__", "") == "<lambda>":
        raise ConfigurationError(
            f"job {kind}: a lambda cannot be a job, since it has no name; define a function with def"
        )
    if hasattr(func, "dispatch") and hasattr(func, "registry"):
        raise ConfigurationError(
            f"job {kind}: a singledispatch function cannot be a job, since its arguments are passed by name; "
            "declare a function that calls it"
        )
    func = func if inspect.isroutine(func) or isinstance(func, functools.partial) else type(func).__call__
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        raise ConfigurationError(
            f"job {kind}: a generator cannot be a job, since a job returns one result: return a list, "
            "and report progress with context.progress()"
        )


def returns_coroutine(func: Any) -> bool:
    """Return whether a function, or the one that it wraps, is a coroutine function."""
    return any(inspect.iscoroutinefunction(one) for one in _layers(func))


def _layers(func: Any) -> Iterator[Any]:
    while func is not None:
        yield func
        if not inspect.isroutine(func) and not isinstance(func, functools.partial):
            yield type(func).__call__
        func = func.func if isinstance(func, functools.partial) else getattr(func, "__wrapped__", None)


def warn_of_untyped(names: list[str], kind: str, func: Any) -> None:
    """Warn, once for each declaration and at the function's own line, of parameters without a type."""
    if not names:
        return
    code = getattr(inspect.unwrap(_annotated(func)), "__code__", None)
    listed = ", ".join(map(repr, names))
    warnings.warn_explicit(
        f"job {kind}: no type is declared for {listed}: a tuple or set arrives as a list, a datetime as text, "
        "an object as a dict; annotate each parameter, with Any where JSON's own types are meant",
        UntypedArgumentWarning,
        filename=code.co_filename if code else "<unknown>",
        lineno=code.co_firstlineno if code else 0,
    )
