"""`Streams`: server-sent events, bounded in number and in time.

Written on Starlette's StreamingResponse: sse-starlette finds the end of a server by its handler of SIGTERM, which is
the pool's own here, and replaces a method of uvicorn's server when it is imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from jobq_core.errors import JobQueueError
from jobq_server.web.problems import Problem

logger = logging.getLogger("jobq.web")

STREAM_SECONDS: Final = 1800.0
"""A stream ends after this time; browsers then open another."""
PING_SECONDS: Final = 15.0
READ_SECONDS: Final = 30.0
"""Time in which a client must take what was sent to it."""
STOP_SECONDS: Final = 1.0
"""Time between two checks whether the server of another application stops."""


class _Stream(StreamingResponse):
    """A response that is a stream. leave: called at its end."""

    def __init__(self, content: AsyncGenerator[bytes, None], leave: Callable[[], None]) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        self._content = content
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            async with asyncio.timeout(READ_SECONDS):
                await send(message)

        try:
            await super().__call__(scope, receive, sent)
        except (TimeoutError, ClientDisconnect):
            logger.info("a stream ended: its client has left, or has read nothing for %g s", READ_SECONDS)
        finally:
            try:
                await self._content.aclose()  # Starlette cancels the sending where the client has left, and no more
            finally:
                self._leave()


class Streams:
    """The open streams. limit: how many there may be at a time; one client may have half of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._share = max(1, limit // 2)
        self._open: Counter[str] = Counter()
        self._closing = asyncio.Event()

    @property
    def count(self) -> int:
        """How many streams are open."""
        return self._open.total()

    def close(self) -> None:
        """End all streams."""
        self._closing.set()
        self._closing = asyncio.Event()

    @contextmanager
    def counted(self, client: str) -> Generator[Callable[[], bool], None, None]:
        """Count a request that waits among the streams, and give a function that tells whether it must end. Raises
        Problem if there are too many."""
        closing = self._closing
        self._enter(client)
        try:
            yield lambda: closing.is_set() or _is_stopping()
        finally:
            self._leave(client)

    def respond(self, client: str, events: AsyncGenerator[bytes, None]) -> StreamingResponse:
        """Return a response that sends events until they end, the client leaves, or the time is over. Raises Problem if
        there are too many."""
        self._enter(client)  # at once: many requests may come before the first stream begins
        return _Stream(self._send(events), partial(self._leave, client))

    def _enter(self, client: str) -> None:
        if self.count >= self._limit:
            raise Problem(503, f"{self._limit} streams are open, and no more are allowed", retry_after=30)
        if self._open[client] >= self._share:
            raise Problem(429, f"{client} has {self._share} open streams, and may have no more", retry_after=30)
        self._open[client] += 1

    def _leave(self, client: str) -> None:
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]

    async def _send(self, events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yield the events, and a comment after each time without any, by which a broken connection is noticed."""
        clock = asyncio.get_running_loop().time
        closing: asyncio.Future[Any] = asyncio.ensure_future(self._closing.wait())
        following: asyncio.Future[Any] | None = None
        ends, ping = clock() + STREAM_SECONDS, clock() + PING_SECONDS
        try:
            yield b"retry: 3000\n\n"
            while clock() < ends and not closing.done() and not _is_stopping():
                following = following or asyncio.ensure_future(anext(events))
                await asyncio.wait({following, closing}, timeout=STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if closing.done():
                    return
                if not following.done():
                    if clock() >= ping:
                        ping = clock() + PING_SECONDS
                        yield b": still here\n\n"
                    continue
                try:
                    event = following.result()
                except StopAsyncIteration:
                    return
                except JobQueueError as error:  # such as a database that restarts: the client asks again
                    logger.warning("a stream of events ended: %s", error)
                    return
                following, ping = None, clock() + PING_SECONDS
                yield event
        finally:
            closing.cancel()
            if following is not None:
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, JobQueueError):
                    await following
            await events.aclose()


def _is_stopping() -> bool:
    """Whether uvicorn serves the application, and stops: it waits for the end of all streams before it tells so."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))


def event(data: str | bytes, *, name: str | None = None, id: str | None = None) -> bytes:
    """Return one event as it is sent."""
    text = data.decode() if isinstance(data, bytes) else data
    lines = [] if name is None else [f"event: {name}"]
    lines += [] if id is None else [f"id: {id}"]
    # A carriage return ends a line too, for who reads it.
    lines += [f"data: {line}" for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return ("\n".join(lines) + "\n\n").encode()
