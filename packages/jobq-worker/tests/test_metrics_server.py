"""The port that serves a worker's metrics and probes."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from jobq_core import job
from jobq_core.errors import ConfigurationError
from jobq_worker import JobQueueWorker
from jobq_worker.metrics import http_server, worker_collector
from jobq_worker.metrics_port import port_of

from .kit import Stage, add, until, working
from .probe import Probe


@job()
async def quick() -> None: ...


def ask(port: int, path: str, method: str = "GET", accept: str = "") -> tuple[int, str, str]:
    """Return the status, the content type and the body of an answer."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path, headers={"Accept": accept})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()


async def asked(worker: JobQueueWorker, path: str, **how: str) -> tuple[int, str, str]:
    assert worker.metrics_port is not None
    return await asyncio.to_thread(ask, worker.metrics_port, path, **how)


async def test_a_worker_serves_its_metrics_and_probes_while_it_runs(storage: Probe) -> None:
    async with working(storage, quick, metrics_port=0) as worker:
        await until(lambda: worker.health().hears)
        status, content_type, text = await asked(worker, "/metrics?x=1")
        assert (status, content_type.split(";")[0]) == (200, "text/plain")
        assert "\njobq_up 1.0\n" in text
        for path in ("/livez", "/readyz"):
            status, content_type, text = await asked(worker, path)
            assert (status, content_type) == (200, "application/json")
            assert json.loads(text)["status"] == "ok"
        assert (await asked(worker, "/livez", method="HEAD"))[::2] == (200, "")
        assert (await asked(worker, "/"))[0] == 404
        assert (await asked(worker, "/metrics", accept="application/openmetrics-text"))[2].endswith("# EOF\n")
        port = worker.metrics_port
    assert worker.metrics_port is None
    assert port is not None
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/livez")


async def test_a_draining_worker_lives_and_is_not_ready(storage: Probe, stage: Stage) -> None:
    @job()
    async def hold() -> None:
        stage.reach("started")
        await released.wait()

    released = asyncio.Event()
    async with working(storage, hold, metrics_port=0) as worker:
        await add(storage, hold())
        await stage.reached("started")
        stopping = asyncio.ensure_future(worker.stop(30))
        await until(lambda: worker.health().state == "stopping")
        assert (await asked(worker, "/livez"))[0] == 200
        status, _, text = await asked(worker, "/readyz")
        assert status == 503
        assert json.loads(text)["checks"]["state"] == {"ok": False, "detail": "stopping"}
        released.set()
        await stopping


async def test_a_blocked_event_loop_is_shown_and_hides_nothing(
    storage: Probe, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_collector, "WAIT_SECONDS", 0.01)
    answers: dict[str, tuple[int, str, str]] = {}

    @job()
    async def block() -> None:
        assert port is not None
        asking = threading.Thread(target=look, args=[port])
        asking.start()
        asking.join(30)

    def look(port: int) -> None:
        while json.loads(ask(port, "/readyz")[2])["checks"]["loop"]["ok"]:
            pass
        answers.update({path: ask(port, path) for path in ("/livez", "/readyz", "/metrics")})
        stage.reach("looked")

    async with working(storage, block, metrics_port=0, heartbeat_interval=0.1) as worker:
        await until(lambda: worker.health().leads)
        port = worker.metrics_port
        await add(storage, block())
        await stage.reached("looked")
    assert answers["/livez"][0] == 200  # the lease still stands
    assert answers["/readyz"][0] == 503
    text = answers["/metrics"][2]
    [lag] = [line.split()[1] for line in text.splitlines() if line.startswith("jobq_worker_loop_lag_seconds{")]
    assert float(lag) >= 1
    assert "\njobq_up 0.0\n" in text


async def test_a_port_that_is_taken_is_named_and_nothing_is_left_behind(storage: Probe) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = JobQueueWorker(storage, jobs=[quick], metrics_port=port)
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port}.*choose another metrics_port"):
            await worker.start()
        assert not worker.is_running
    await worker.start()
    assert worker.metrics_port == port
    await worker.stop(0)


async def test_a_start_that_fails_closes_the_port(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[quick], metrics_port=0)
    storage.fail("register")
    with pytest.raises(Exception, match="the connection broke"):
        await worker.start()
    assert worker.metrics_port is None


async def test_without_prometheus_client_the_start_says_what_to_install(
    storage: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("jobq_worker.metrics.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "jobq_worker.metrics")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'jobq-worker\[metrics\]'"):
        await JobQueueWorker(storage, jobs=[quick], metrics_port=0).start()


@pytest.fixture
def server(storage: Probe) -> Iterator[http_server.MetricsServer]:
    server = http_server.MetricsServer(JobQueueWorker(storage, jobs=[quick]), "127.0.0.1", 0)
    server.start()
    yield server
    server.stop()


def test_clients_that_send_nothing_keep_no_probe_out(server: http_server.MetricsServer) -> None:
    with contextlib.ExitStack() as silent:
        for _ in range(2 * http_server.MAX_REQUESTS):
            silent.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert [ask(server.port, path)[0] for path in ("/livez", "/readyz", "/metrics")] == [200, 503, 200]


def test_answers_that_nobody_reads_keep_no_probe_out(
    server: http_server.MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "metrics_text", lambda *_: (bytes(8_000_000), "text/plain"))
    with contextlib.ExitStack() as slow:
        for _ in range(http_server.MAX_REQUESTS):
            connection = slow.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            connection.recv(1)
        assert ask(server.port, "/livez")[0] == 200


def test_two_workers_do_not_share_a_port(server: http_server.MetricsServer, storage: Probe) -> None:
    other = http_server.MetricsServer(JobQueueWorker(storage, jobs=[quick]), "127.0.0.1", server.port)
    with pytest.raises(ConfigurationError, match="choose another metrics_port"):
        other.start()


def test_a_server_that_was_stopped_can_be_stopped_and_started_again(server: http_server.MetricsServer) -> None:
    server.stop()
    server.stop()
    server.start()
    assert ask(server.port, "/livez")[0] == 200


@pytest.mark.parametrize(("port", "number", "expected"), [(None, 3, None), (0, 3, 0), (9000, 1, 9000), (9000, 3, 9002)])
def test_the_children_of_a_supervisor_have_successive_ports(
    port: int | None, number: int, expected: int | None
) -> None:
    assert port_of(port, number) == expected


@pytest.mark.parametrize("options", [{"metrics_port": -1}, {"metrics_port": 65_536}, {"metrics_port": "9000"}])
def test_a_port_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="metrics_port"):
        JobQueueWorker("memory://", jobs=[quick], **options)


async def test_a_host_that_is_not_there_is_named(storage: Probe) -> None:
    worker = JobQueueWorker(storage, jobs=[quick], metrics_port=0, metrics_host="192.0.2.1")
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1:0: .*metrics_host"):
        await worker.start()
