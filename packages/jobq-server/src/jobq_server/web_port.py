"""`serve_web`: the option `web` of a server, without which nothing of the web is imported."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from jobq_core.errors import ConfigurationError
from jobq_server.web_options import WebOptions

if TYPE_CHECKING:
    from jobq_server.server import JobQueueServer

PARTS = frozenset({"jinja2", "markupsafe", "prometheus_client", "starlette", "uvicorn"})


@asynccontextmanager
async def serve_web(
    server: JobQueueServer, options: WebOptions, *, on_port: Callable[[int | None], None]
) -> AsyncGenerator[None]:
    """Serve the dashboard and the API of a server, whose storage is open, while the context is.

    on_port: called with the port that it listens on, and with None at the end. Raises ConfigurationError if the address
    cannot be used, or the extra `web` is not installed.
    """
    try:
        from jobq_server.web.serving import WebServer
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in PARTS:
            raise
        raise ConfigurationError(
            f"the dashboard and the HTTP API need {error.name}, which is not installed: pip install 'jobq-server[web]'"
        ) from error
    web = WebServer.of_server(server, options)
    await web.start()
    try:
        on_port(web.port)
        yield
    finally:
        on_port(None)
        await web.stop()
