"""`GeneratorMiddleware`: a generator as a context manager around one call, whose `yield` returns the call's result."""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any


class GeneratorMiddleware:
    """Around one call. A generator that ends without a `yield`, or yields twice, raises RuntimeError.

    name: the middleware's, for errors. result: returns what the call has returned.
    consequence: what the error of a generator without a `yield` says besides (default: nothing).
    """

    def __init__(
        self, name: str, generator: Generator[Any, Any, Any], result: Callable[[], Any], *, consequence: str = ""
    ) -> None:
        self._name = name
        self._generator = generator
        self._result = result
        self._consequence = consequence

    def __enter__(self) -> None:
        try:
            next(self._generator)
        except StopIteration:
            raise RuntimeError(f"middleware {self._name} ended without a yield{self._consequence}") from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            if error is None:
                self._generator.send(self._result())
            else:
                self._generator.throw(error)
        except StopIteration as end:
            return error is not None and end is not error
        except BaseException as raised:
            if raised is not error:
                raise
            raised.__traceback__ = trace
            return False
        self._generator.close()
        raise RuntimeError(f"middleware {self._name} yielded twice")
