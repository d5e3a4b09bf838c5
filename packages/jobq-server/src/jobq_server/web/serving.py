"""`WebServer`: uvicorn on the event loop of a pool, without signal handlers: signals are the pool's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, Final, Self

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from jobq_core.errors import ConfigurationError
from jobq_server.web.app import create_app
from jobq_server.web.security.door import PROBES
from jobq_server.web.streams import READ_SECONDS
from jobq_server.web_options import WebOptions

if TYPE_CHECKING:
    from jobq_server.server import JobQueueServer

logger = logging.getLogger("jobq.web")

MAX_CONNECTIONS: Final = 500
"""Connections at a time; of more, the requests are answered with 503, except those of probes."""
KEEP_ALIVE_SECONDS: Final = 15
HEADERS_SECONDS: Final = 15.0
"""Time in which the headers of a request must arrive."""
SEND_BYTES: Final = 256 * 1024
"""What the system keeps of a connection that is not read; by default, it may be megabytes."""
STOP_SECONDS: Final = 3
"""Time in which requests under way must end at the stop."""


class _Protocol(H11Protocol):
    """HTTP by h11, which bounds headers and checks those of answers; after a time, connections are closed that send no
    request, or do not read the answer.

    uvicorn keeps them, and a few hundred would keep out all others.
    """

    _headers_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that `pause_writing` is called for each byte that is not taken
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._headers_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_timer = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_headers()

    def _await_headers(self) -> None:
        """Start the time for the headers of a request, unless it runs; end it once they are there."""
        if self._is_answering() and self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None
        elif not self._is_answering() and self._headers_timer is None:
            self._headers_timer = self.loop.call_later(HEADERS_SECONDS, self._close_silent)

    def _close_silent(self) -> None:
        self._headers_timer = None
        if not self._is_answering():
            self.transport.close()

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class WebServer:
    """Serves an application from `start` to `stop`. close: called at the stop, to end what would go on."""

    def __init__(self, app: ASGIApp, host: str, port: int, close: Callable[[], Awaitable[None]] | None = None) -> None:
        self._app = app
        self._close = close
        self._host = host
        self._wanted = port
        self._socket: socket.socket | None = None
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def of_server(cls, server: JobQueueServer, options: WebOptions) -> Self:
        """Return what serves the dashboard and the API of a server, whose storage is open."""
        app = create_app(
            server.storage,
            auth=options.auth,
            jobs=[definition.job_type for definition in server.handlers.definitions()],
            hide_payloads=options.hide_payloads,
            allowed_hosts=options.allowed_hosts,
            root_path=options.root_path,
            title=options.title,
            insecure_no_auth=options.insecure_no_auth,
            server=server,
        )
        return cls(app, options.host, options.port, app.state.web.close)

    @property
    def port(self) -> int:
        """The port that it listens on, or will."""
        return self._wanted if self._socket is None else int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises ConfigurationError if the address cannot be used."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
            listening.bind((self._host, self._wanted))
        except OSError as error:
            listening.close()
            raise ConfigurationError(
                f"the dashboard and the HTTP API cannot be served on {self._host}:{self._wanted}: {error}; "
                "choose another port or host"
            ) from error
        self._socket = listening
        config = uvicorn.Config(
            self._limited,
            access_log=False,
            http=_Protocol,
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve([listening]), name="jobq web")
        # uvicorn says nowhere that it listens; connections wait in the socket's queue until it does.
        listening.listen(config.backlog)
        logger.info("dashboard and HTTP API on http://%s:%d", _shown(self._host), self.port)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse requests while there are too many connections. Probes are answered: a restart would not help."""
        assert self._server is not None
        app = self._app
        if len(self._server.server_state.connections) > MAX_CONNECTIONS and scope["path"] not in PROBES:
            logger.warning("a request is refused: more than %d connections are open", MAX_CONNECTIONS)
            app = PlainTextResponse(
                "too many connections are open; try again later\n", 503, {"connection": "close", "retry-after": "5"}
            )
        await app(scope, receive, send)

    async def stop(self) -> None:
        """End the streams, let other requests under way end, and close the port."""
        task, self._task = self._task, None
        if task is None or self._server is None:
            return
        self._server.should_exit = True
        if self._close is not None:
            await self._close()
        try:
            await task
        finally:
            if self._socket is not None:
                self._socket.close()
                self._socket = None


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
