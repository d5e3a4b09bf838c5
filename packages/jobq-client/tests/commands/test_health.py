"""`jobq health`."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobq_core.commands import main
from jobq_core.errors import SchemaError, StorageUnavailableError
from jobq_core.health import Check, HealthReport
from jobq_core.memory import MemoryQueueStorage
from jobq_core.testing import register_worker

from .conftest import Shell


def ask(url: str, *words: str) -> Result:
    """Ask an endpoint."""
    return CliRunner().invoke(main, ["health", "--url", url, *words])


def test_a_storage_that_answers_is_well(shell: Shell) -> None:
    first, second = shell.run("health").output.splitlines()
    assert first.startswith(f"ok    storage: {shell.url} answered in ")
    assert second == "ok    schema: this version works with the tables"
    found = shell.json("health")
    assert (found["status"], found["checks"]["schema"]["ok"]) == ("ok", True)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StorageUnavailableError("no\x1b connection"), "FAIL  storage: StorageUnavailableError: no\\x1b connection"),
        (SchemaError("run `jobq migrate`"), "FAIL  schema: run `jobq migrate`"),
    ],
)
def test_what_fails_is_named_and_the_exit_code_is_4(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    async def fail(self: MemoryQueueStorage) -> None:
        raise error

    monkeypatch.setattr(MemoryQueueStorage, "open", fail)
    assert line in shell.run("health", code=4).output.splitlines()
    assert shell.json("health", code=4)["status"] == "failing"


@pytest.mark.parametrize("command", ["health", "status", "doctor", "queues"])
def test_a_command_that_mistypes_an_address_creates_nothing_there(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    kept: list[bool] = []
    monkeypatch.setattr(MemoryQueueStorage, "keep_schema", lambda self: kept.append(True))
    shell.run(command)
    assert kept == [True]


def test_a_worker_is_well_while_its_heartbeat_is_fresh(shell: Shell) -> None:
    assert "FAIL  worker: no worker 'till-1' is registered" in shell.run("health", "--worker", "till-1", code=4).output
    info = shell.act(lambda storage: register_worker(storage, name="till-1", host="h", pid=7))
    for name in ("till-1", info.id):
        line = shell.run("health", "--worker", name).output.splitlines()[-1]
        assert line.startswith(f"ok    worker: worker '{name}' on h, pid 7: last heartbeat ")
    shell.act(lambda storage: register_worker(storage, name="till-2", lost_after=1e-6))
    assert "which is too long" in shell.run("health", "--worker", "till-2", code=4).output


def test_the_storage_or_an_endpoint_must_be_named() -> None:
    assert CliRunner().invoke(main, ["health"], env={"JOBQ_STORAGE": ""}).exit_code == 2
    both = ask("http://127.0.0.1:1/", "--worker", "w")
    assert (both.exit_code, "use one of them" in both.output) == (2, True)


# Endpoints


class Endpoint:
    """A server that gives one answer."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b""
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(endpoint.status)
                self.end_headers()
                self.wfile.write(endpoint.body)

            def log_message(self, *_: Any) -> None: ...

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/readyz"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


def test_an_endpoint_is_shown_with_its_checks(endpoint: Endpoint) -> None:
    endpoint.body = HealthReport({"loop": Check(True, "the event loop responds")}).to_json()
    well = ask(endpoint.url)
    assert well.exit_code == 0
    assert well.output == "ok    endpoint: answered with status 200\nok    loop: the event loop responds\n"
    endpoint.status, endpoint.body = 503, b'{"status": "failing", "checks": {"state": {"ok": false}}}'
    ill = ask(endpoint.url, "--json")
    assert ill.exit_code == 4
    assert json.loads(ill.output)["checks"] == {
        "endpoint": {"ok": False, "detail": "answered with status 503"},
        "state": {"ok": False, "detail": ""},
    }


@pytest.mark.parametrize("body", [b"", b"ok", b"[]", b'{"checks": 3}', b"\xff" * 100])
def test_an_endpoint_without_checks_counts_by_its_status(endpoint: Endpoint, body: bytes) -> None:
    endpoint.body = body
    assert ask(endpoint.url).output == "ok    endpoint: answered with status 200\n"
    endpoint.status = 500
    assert ask(endpoint.url).exit_code == 4


def test_an_endpoint_that_does_not_answer_fails() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        found = ask(f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert found.exit_code == 4
    assert "FAIL  endpoint: no answer: " in found.output
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = ask(f"http://127.0.0.1:{silent.getsockname()[1]}/", "--timeout", "0.05")
    assert (found.exit_code, "timed out" in found.output) == (4, True)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "127.0.0.1:9090", "ftp://host/x"])
def test_only_http_is_asked(url: str) -> None:
    found = ask(url)
    assert (found.exit_code, "must begin with http://" in found.output) == (2, True)
