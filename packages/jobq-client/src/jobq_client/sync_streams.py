"""What the sync client returns of what goes on: iterators over async ones of the portal, and futures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future
from types import TracebackType
from typing import Generic, Self, TypeVar

from jobq_client.process_portal import ProcessPortal
from jobq_core.events import Event, EventStream

T = TypeVar("T")
E = TypeVar("E", bound=Event)


def iterate(portal: ProcessPortal, generator: AsyncGenerator[T, None], ahead: int = 1) -> Generator[T, None, None]:
    """Iterate over an async generator on the portal, which is closed when the iterator is closed or dropped.

    ahead: number of items read at a time.
    """

    async def read() -> list[T]:
        items: list[T] = []
        async for item in generator:
            items.append(item)
            if len(items) >= ahead:
                break
        return items

    try:
        while items := portal.run(read):
            yield from items
    finally:
        # Not waited for: the garbage collector may run this in the portal's own thread.
        portal.post(lambda: portal.create_task(_close(generator)))


async def _close(generator: AsyncGenerator[T, None]) -> None:
    try:
        await generator.aclose()
    except RuntimeError:
        return  # it has not yet ended a read that was cancelled, and does so by itself


class SyncEventStream(Generic[E]):
    """The events after it was made. Iterate it with `for`; end it with `close()` or `with`.

    It keeps each event until it is read: the memory of a reader that is always too slow grows without limit.
    """

    def __init__(self, portal: ProcessPortal, stream: EventStream[E]) -> None:
        self._portal = portal
        self._stream = stream

    def close(self) -> None:
        """Stop receiving events. Those received before can still be read. May be called twice, from any thread."""
        self._portal.post(self._stream.close)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> E:
        try:
            return self._portal.run(self._stream.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def as_future(portal: ProcessPortal, make: Callable[[], asyncio.Future[E]]) -> Future[E]:
    """Return a future of threads for one of the portal's loop, which is made before this returns."""
    result: Future[E] = Future()

    def copy(waited: asyncio.Future[E]) -> None:
        if not result.set_running_or_notify_cancel():
            return
        error = waited.exception()
        if error is None:
            result.set_result(waited.result())
        else:
            result.set_exception(error)

    async def begin() -> None:
        waited = make()
        waited.add_done_callback(copy)
        result.add_done_callback(lambda _: portal.post(waited.cancel))

    portal.run(begin)
    return result
