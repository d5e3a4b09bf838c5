"""A server with a dashboard beside its pool, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Message, Receive, Scope, Send

from jobq_client import JobQueueClient
from jobq_core import ConfigurationError, job
from jobq_core.commands import main
from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import Progress
from jobq_core.storage import LogLine, LogPart
from jobq_server import JobQueueServer, WebOptions
from jobq_server.web import Role, create_app
from jobq_server.web.serving import WebServer
from jobq_server.web.streams import Streams, event

from .helpers import TOKENS, Hand, credentials, new_job, until

LIVE: Scope = {
    "type": "http",
    "method": "GET",
    "path": "/live",
    "query_string": b"at=/",
    "headers": [(b"host", b"localhost")],
    "client": ("127.0.0.1", 5),
}


@job(queue="mail")
async def send(order_id: int) -> int:
    return order_id


@pytest.fixture
async def server(storage: MemoryQueueStorage) -> AsyncIterator[JobQueueServer]:
    async with JobQueueServer(storage, jobs=[send], name="web1", web=WebOptions(port=0)) as server:
        yield server


@pytest.fixture
async def http(server: JobQueueServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.web_port}", timeout=30) as client:
        yield client


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application, and give a client of it."""
    web = WebServer(app, "127.0.0.1", 0)
    await web.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{web.port}", timeout=30) as http:
            yield http
    finally:
        await web.stop()


async def test_the_pool_and_its_dashboard_are_one_process(http: httpx.AsyncClient) -> None:
    added = await http.post("/api/v1/jobs", json={"kind": "send", "arguments": {"order_id": 7}})
    ended = await http.get(f"/api/v1/jobs/{added.json()['id']}/wait")
    assert (ended.json()["state"], ended.json()["result"]) == ("completed", 7)
    assert "web1" in (await http.get("/workers")).text


async def test_the_probes_and_the_metrics_are_those_of_the_pool(http: httpx.AsyncClient) -> None:
    for path in ("/livez", "/readyz"):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert "heartbeat" in (await http.get("/livez")).json()["checks"]
    assert 'jobq_worker_slots{state="free",worker="web1"} 10' in (await http.get("/metrics")).text


async def test_an_open_page_is_renewed_when_something_happens(
    http: httpx.AsyncClient, storage: MemoryQueueStorage
) -> None:
    hand = await Hand(storage, "other").register()
    await storage.add([new_job(queue="other")])
    (claimed,) = await hand.claim()
    async with asyncio.timeout(20), http.stream("GET", "/live", params={"at": f"/jobs/{claimed.id}"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.aiter_lines()
        await anext(line async for line in lines if "live_head" in line)
        line = LogLine(await storage.now(), "INFO", "shop", "wrote a row")
        await storage.write_logs([LogPart(job=claimed.id, lease=claimed.lease, attempt=1, part=0, lines=(line,))])
        await hand.progress(claimed, Progress(percent=43, message="row 43"))
        renewed = await anext(line async for line in lines if line.startswith("data:"))
        assert "row 43" in renewed
        assert "wrote a row" in renewed
        assert "live_actions" not in renewed  # which is as it was


async def test_the_streams_are_bounded_and_one_client_has_half_of_them(storage: MemoryQueueStorage) -> None:
    app = create_app(storage, auth=credentials(), max_streams=4)
    async with serving(app) as http, contextlib.AsyncExitStack() as stack:

        async def ask(role: Role) -> httpx.Response:
            token = {"authorization": f"Bearer {TOKENS[role]}"}
            return await stack.enter_async_context(http.stream("GET", "/live", params={"at": "/"}, headers=token))

        asked = [await ask(role) for role in (*[Role.VIEW] * 3, *[Role.ADMIN] * 2, Role.OPERATE)]
        assert [answer.status_code for answer in asked] == [200, 200, 429, 200, 200, 503]
        assert {asked[n].headers["retry-after"] for n in (2, 5)} == {"30"}
        assert b"View has 2 open streams" in await asked[2].aread()


async def test_streams_that_begin_at_once_are_bounded_too(storage: MemoryQueueStorage) -> None:
    app = create_app(storage, max_streams=2)
    begun: list[int] = []

    async def stream(client: str) -> None:
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.append(message["status"])
            await asyncio.sleep(0)

        await app({**LIVE, "client": (client, 5)}, asyncio.Event().wait, send)  # type: ignore[arg-type]

    async def all_begun() -> bool:
        return len(begun) == len(asked)

    asked = [asyncio.create_task(stream(client)) for client in ["127.0.0.1", "::1"] * 3]
    await until(all_begun)
    assert sorted(begun) == [200, 200, 503, 503, 503, 503]
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert app.state.web.streams.count == 0


async def test_a_connection_that_sends_no_whole_request_is_closed(
    storage: MemoryQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq_server.web.serving.HEADERS_SECONDS", 0.3)
    async with serving(create_app(storage)) as http, asyncio.timeout(10):
        for before in (b"", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
            writer.write(before)
            if before:
                assert (await reader.readuntil(b"}}}")).startswith(b"HTTP/1.1 200")
            writer.write(b"GET / HTT")
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        assert (await http.get("/livez")).status_code == 200


async def test_a_client_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobq_server.web.serving.READ_SECONDS", 0.05)
    left = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(16_000_000), "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    async with serving(app) as http, asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port, limit=1)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await left.wait()
        writer.close()


@pytest.mark.parametrize("version", ["2.3", "2.4"])
async def test_a_stream_that_is_not_read_ends_and_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr("jobq_server.web.streams.READ_SECONDS", 0.01)
    streams, ended = Streams(4), []

    async def events() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield event("x" * 1000)
        finally:
            ended.append(streams.count)

    async def send(message: Message) -> None:
        if b"data" in message.get("body", b""):
            await asyncio.Event().wait()

    await streams.respond("kai", events())({**LIVE, "asgi": {"spec_version": version}}, asyncio.Event().wait, send)  # type: ignore[arg-type]
    assert (ended, streams.count) == ([1], 0)


async def test_a_wait_whose_client_left_holds_no_place(
    storage: MemoryQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq_server.web.api.jobs.LOOK_SECONDS", 0.01)
    app = create_app(storage)
    waiting = new_job()
    await storage.add([waiting])

    async def waits(count: int) -> bool:
        return app.state.web.streams.count == count  # type: ignore[no-any-return]

    async with serving(app) as http:
        _, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
        writer.write(f"GET /api/v1/jobs/{waiting.id}/wait HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await until(lambda: waits(1))
        writer.close()
        await until(lambda: waits(0))


async def test_probes_are_answered_while_there_are_too_many_connections(
    storage: MemoryQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq_server.web.serving.MAX_CONNECTIONS", 1)
    async with serving(create_app(storage)) as http:
        _, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
        refused = await http.get("/jobs")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert [(await http.get(path)).status_code for path in ("/livez", "/readyz")] == [200, 200]
        writer.close()


async def test_without_authentication_a_proxy_that_adds_no_header_is_refused(storage: MemoryQueueStorage) -> None:
    async with serving(create_app(storage)) as http:
        reader, writer = await asyncio.open_connection("127.0.0.1", http.base_url.port)
        writer.write(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")  # as nginx asks
        assert b"403" in (await reader.read()).partition(b"\r\n")[0]
        writer.close()


async def test_the_stop_of_uvicorn_ends_the_streams_of_a_mounted_application(
    storage: MemoryQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq_server.web.streams.STOP_SECONDS", 0.01)
    app = Starlette(routes=[Mount("/ops", create_app(storage))])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host = uvicorn.Server(uvicorn.Config(app, log_config=None))
        serving = asyncio.create_task(host.serve([listening]))
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=base) as http, asyncio.timeout(10):
            async with http.stream("GET", "/ops/live", params={"at": "/"}) as stream:
                lines = stream.aiter_lines()
                await anext(lines)
                host.should_exit = True
                assert [line async for line in lines][-1] == ""
            await serving


async def test_a_stop_ends_open_streams(storage: MemoryQueueStorage) -> None:
    server = JobQueueServer(storage, jobs=[send], web=WebOptions(port=0))
    await server.start()
    base = f"http://127.0.0.1:{server.web_port}"
    async with httpx.AsyncClient(base_url=base, timeout=30) as http:
        async with http.stream("GET", "/live", params={"at": "/"}) as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            stopping = asyncio.create_task(server.stop())
            async with asyncio.timeout(20):
                assert [line async for line in lines][-1] == ""
                await stopping
        assert server.web_port is None
        with pytest.raises(httpx.ConnectError):
            await http.get("/livez")


async def test_a_server_can_be_started_again(server: JobQueueServer) -> None:
    await server.stop()
    await server.start()
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"http://127.0.0.1:{server.web_port}/livez")).status_code == 200


async def test_credentials_open_a_server_to_other_machines(storage: MemoryQueueStorage) -> None:
    web = WebOptions(port=0, host="0.0.0.0", auth=credentials())
    async with JobQueueServer(storage, jobs=[send], web=web) as server, httpx.AsyncClient() as http:
        base = f"http://127.0.0.1:{server.web_port}"
        assert (await http.get(f"{base}/api/v1/me")).status_code == 401
        token = {"authorization": f"Bearer {next(iter(TOKENS.values()))}"}
        assert (await http.get(f"{base}/api/v1/me", headers=token)).json()["role"] == "view"
        assert (await http.get(f"{base}/readyz")).json()["checks"]["storage"] == {"ok": True}


def test_another_address_without_authentication_is_refused() -> None:
    for host in ("0.0.0.0", "192.0.2.7", "::", "jobs.example.org"):
        with pytest.raises(ConfigurationError, match="there is no authentication"):
            WebOptions(port=0, host=host)
        assert WebOptions(port=0, host=host, insecure_no_auth=True)
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        assert WebOptions(port=0, host=host)


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open(storage: MemoryQueueStorage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = JobQueueServer(storage, jobs=[send], web=WebOptions(port=port))
        with pytest.raises(ConfigurationError, match=f"cannot be served on 127.0.0.1:{port}"):
            await server.start()
    assert not server.is_running
    assert await storage.workers() == []


async def test_a_mounted_application_opens_the_storage_of_its_url(tmp_path: Path) -> None:
    name = f"memory://{tmp_path.name}"
    outer = Starlette(routes=[Mount("/ops", create_app(name))])
    async with JobQueueClient(name) as client, serving(outer) as http:
        await client.add(send(7))
        page = await http.get("/ops/jobs")
        assert page.status_code == 200
        assert "send" in page.text
        assert 'href="/ops/static/style.css' in page.text
        assert 'href="/jobs' not in page.text


def test_a_pool_alone_loads_nothing_of_the_web() -> None:
    program = (
        "import sys, jobq_server, jobq_server.commands\n"
        "jobq_server.JobQueueServer('memory://')\n"
        "print({'starlette', 'uvicorn', 'jinja2', 'anyio', 'jobq_server.web', 'prometheus_client'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "--host needs --port"),
        (["--port", "8080", "--host", "0.0.0.0"], "there is no authentication"),
        (["--port", "8080", "--web-credentials", "/nothing.toml"], "cannot be read"),
        (["--port", "8080", "--web-token", "short"], "at least 12 characters"),
        (["--port", "8080", "--web-token", ""], "JOBQ_WEB_TOKEN is empty"),
    ],
)
def test_options_of_the_command_that_cannot_work_are_refused(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["server", "nothing", "--storage", "memory://", *arguments])
    assert result.exit_code == 2
    assert said in result.output
