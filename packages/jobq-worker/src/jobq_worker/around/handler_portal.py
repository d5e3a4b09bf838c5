"""`HandlerPortal`: lets a handler's thread use async context managers and functions, which run on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class HandlerPortal:
    """Made on the event loop, used in threads. What runs on the loop sees the context variables of the thread.

    A portal that is made without a running event loop raises RuntimeError when it is used.
    """

    def __init__(self) -> None:
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None

    def call(self, function: Callable[..., Awaitable[T]], *args: Any, **keywords: Any) -> T:
        """Call an async function on the event loop, and wait for what it returns or raises."""
        answer: Future[tuple[T | None, BaseException | None]] = Future()

        async def run() -> None:
            try:
                answer.set_result((await function(*args, **keywords), None))
            except BaseException as error:  # noqa: BLE001  (of the user's code: it is raised in the thread)
                answer.set_result((None, error))

        self.start(run())
        value, error = answer.result()
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def wrap(self, manager: AbstractAsyncContextManager[T]) -> AbstractContextManager[T]:
        """Return an async context manager as a sync one. One task on the event loop enters and leaves it."""
        return _Wrapped(self, manager)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start a task on the event loop."""
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("an async middleware or resource needs an event loop, and none runs here")
        asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def tell(self, future: asyncio.Future[Any], value: Any) -> None:
        """Set a future of the event loop."""
        assert self._loop is not None  # the future is one of this loop
        self._loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(value))


class _Wrapped(AbstractContextManager[T]):
    """An async context manager in a thread. Errors pass as values: a SystemExit must not end the event loop."""

    def __init__(self, portal: HandlerPortal, manager: AbstractAsyncContextManager[T]) -> None:
        self._portal = portal
        self._manager = manager
        self._entered: Future[tuple[T | None, BaseException | None]] = Future()
        self._left: Future[tuple[bool, BaseException | None]] = Future()
        self._leave: asyncio.Future[BaseException | None]

    async def _serve(self) -> None:
        self._leave = asyncio.get_running_loop().create_future()
        suppressed = True
        try:
            async with self._manager as value:
                self._entered.set_result((value, None))
                error = await self._leave
                if error is not None:
                    raise error
                suppressed = False
        except BaseException as raised:  # noqa: BLE001  (of the user's code: it is raised in the thread)
            if self._entered.done():
                self._left.set_result((False, raised))
            else:
                self._entered.set_result((None, raised))
        else:
            self._left.set_result((suppressed, None))

    def __enter__(self) -> T:
        self._portal.start(self._serve())
        value, error = self._entered.result()
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._portal.tell(self._leave, error)
        suppressed, raised = self._left.result()
        if raised is not None and raised is not error:
            raise raised
        if raised is not None:
            raised.__traceback__ = trace
        return suppressed
