"""`Streams`: server-sent events, bounded in number and in time.

Written on Starlette's StreamingResponse: sse-starlette finds the end of a server by its handler of SIGTERM, which is
the pool's own here, and replaces a method of uvicorn's server when it is imported.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from jobq_server.web.problems import Problem

STREAM_SECONDS: Final = 1800.0
"""A stream ends after this time; browsers then open another."""
PING_SECONDS: Final = 15.0


class _Stream(StreamingResponse):
    """A response that is a stream. leave: called at its end."""

    def __init__(self, content: AsyncIterator[bytes], leave: Callable[[], None]) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


class Streams:
    """The open streams. limit: how many there may be at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open = 0
        self._closing = asyncio.Event()

    @property
    def count(self) -> int:
        """How many streams are open."""
        return self._open

    def close(self) -> None:
        """End all streams."""
        self._closing.set()
        self._closing = asyncio.Event()

    @contextmanager
    def counted(self) -> Generator[None, None, None]:
        """Count a request that waits among the streams. Raises Problem if there are too many."""
        self._check_room()
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    def _check_room(self) -> None:
        if self._open >= self._limit:
            raise Problem(503, f"{self._limit} streams are open, and no more are allowed", retry_after=30)

    def respond(self, events: AsyncGenerator[bytes, None]) -> StreamingResponse:
        """Return a response that sends events until they end, the client leaves, or the time is over. Raises Problem if
        there are too many."""
        self._check_room()
        self._open += 1  # at once: many requests may come before the first stream begins
        return _Stream(self._send(events), self._leave)

    def _leave(self) -> None:
        self._open -= 1

    async def _send(self, events: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
        """Yield the events, and a comment after each time without any, by which a broken connection is noticed."""
        closing: asyncio.Future[Any] = asyncio.ensure_future(self._closing.wait())
        ends = asyncio.get_running_loop().time() + STREAM_SECONDS
        following: asyncio.Future[Any] | None = None
        try:
            yield b"retry: 3000\n\n"
            while asyncio.get_running_loop().time() < ends and not closing.done():
                following = following or asyncio.ensure_future(anext(events))
                await asyncio.wait({following, closing}, timeout=PING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if closing.done():
                    return
                if not following.done():
                    yield b": still here\n\n"
                    continue
                try:
                    event = following.result()
                except StopAsyncIteration:
                    return
                following = None
                yield event
        finally:
            closing.cancel()
            if following is not None:
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                    await following
            await events.aclose()


def event(data: str | bytes, *, name: str | None = None, id: str | None = None) -> bytes:
    """Return one event as it is sent."""
    text = data.decode() if isinstance(data, bytes) else data
    lines = [] if name is None else [f"event: {name}"]
    lines += [] if id is None else [f"id: {id}"]
    # A carriage return ends a line too, for who reads it.
    lines += [f"data: {line}" for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return ("\n".join(lines) + "\n\n").encode()
