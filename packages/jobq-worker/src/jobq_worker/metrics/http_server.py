"""`MetricsServer`: serves /metrics, /livez and /readyz of a worker, in threads of its own.

The event loop has no part in it: a blocked loop is shown, and does not hide behind a request that is never answered.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from jobq_core.errors import ConfigurationError
from jobq_core.health import HealthReport
from jobq_worker.metrics.text import metrics_text
from jobq_worker.metrics.worker_collector import WorkerCollector
from jobq_worker.probes import livez, readyz
from jobq_worker.worker import JobQueueWorker

logger = logging.getLogger("jobq.worker")

MAX_REQUESTS: Final = 16
"""The number of requests that are answered at a time; for a further one, the connection of the oldest is closed."""
END_SECONDS: Final = 1.0
"""Time in which the port must be closed at the stop."""
REQUEST_SECONDS: Final = 10.0
"""Time in which a client must send its request, and read each part of the answer."""


class MetricsServer:
    """Listens from `start` to `stop`. host, port: where; port 0 is any free one, and `port` then says which.

    There is no authentication: bind it to addresses that only the monitoring reaches.
    """

    def __init__(self, worker: JobQueueWorker, host: str, port: int) -> None:
        self._worker = worker
        self._address = host, port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that it listens on, or will."""
        return self._address[1] if self._server is None else int(self._server.server_address[1])

    def start(self) -> None:
        """Listen. Raises ConfigurationError if the address cannot be used."""
        host, port = self._address
        try:
            self._server = _Server(self._address, self._worker)
        except (OSError, OverflowError) as error:
            raise ConfigurationError(
                f"metrics cannot be served on {host}:{port}: {error}; choose another metrics_port or metrics_host"
            ) from error
        logger.info("worker %s: /metrics, /livez and /readyz on http://%s:%d", self._worker.name, host, self.port)
        self._thread = threading.Thread(target=self._server.serve, name="jobq-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; requests under way are answered."""
        if self._server is not None:
            self._server.end()
            self._server = None
        if self._thread is not None:
            self._thread.join(END_SECONDS)
            self._thread = None


class _Server(ThreadingHTTPServer):
    """Accepts connections until `end`, without looking again and again whether it was called."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_port = False  # another worker with the same port must find it taken
    request_queue_size = 2 * MAX_REQUESTS

    def __init__(self, address: tuple[str, int], worker: JobQueueWorker) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)
        self.worker = worker
        self.collector = WorkerCollector(worker)
        self._places = threading.Semaphore(MAX_REQUESTS)
        self._open: dict[Any, None] = {}  # the connections under way, the oldest first
        self._woken, self._wake = socket.socketpair()

    def serve(self) -> None:
        """Accept connections; each request has a thread."""
        with selectors.DefaultSelector() as selector, self._woken, self:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ, "end")
            while all(key.data != "end" for key, _ in selector.select()):
                self._handle_request_noblock()  # type: ignore[attr-defined]

    def end(self) -> None:
        """Let `serve` end, and close the port."""
        self._wake.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self._cut_oldest()
            if not self._places.acquire(timeout=END_SECONDS):
                self.shutdown_request(request)
                return
        self._open[request] = None
        super().process_request(request, client_address)

    def _cut_oldest(self) -> None:
        """End the oldest connection: a scrape takes milliseconds, so that its client is silent, or slow."""
        for oldest in list(self._open)[:1]:
            with contextlib.suppress(OSError):  # it ended by itself
                oldest.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with contextlib.suppress(KeyError):  # it was refused
            del self._open[request]
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a request for metrics failed", exc_info=sys.exception())


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = REQUEST_SECONDS
    server_version = "jobq"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the page, or 404."""
        server, health = self.server, self.server.worker.health()
        match self.path.partition("?")[0]:
            case "/metrics":
                text, content_type = metrics_text([server.collector], self.headers.get("Accept", ""))
                self._answer(HTTPStatus.OK, content_type, text)
            case "/livez":
                self._report(livez(health))
            case "/readyz":
                self._report(readyz(health))
            case _:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"see /metrics, /livez and /readyz\n")

    do_HEAD = do_GET  # noqa: N815

    def _report(self, report: HealthReport) -> None:
        status = HTTPStatus.OK if report.ok else HTTPStatus.SERVICE_UNAVAILABLE
        self._answer(status, "application/json", report.to_json())

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(OSError):  # the client has gone
                self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a probe asks every few seconds."""
