"""What each request passes before its route: host, origin, size, and who makes it."""

from __future__ import annotations

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from jobq_core import ConfigurationError, StorageUnavailableError
from jobq_core.memory import MemoryQueueStorage
from jobq_server.web import Identity, Role, create_app
from jobq_server.web.security.attempts import ALLOWED
from jobq_server.web.security.door import MAX_BODY, MAX_URL

from .helpers import PASSWORD, Connect, credentials

FORM = {"content-type": "application/x-www-form-urlencoded"}


async def test_each_answer_has_the_headers_of_security(connect: Connect) -> None:
    client = connect(role=Role.VIEW)
    for path in ("/", "/jobs", "/jobs/nothing", "/nothing", "/static/style.css", "/login", "/api/v1/nothing"):
        answer = await client.get(path)
        assert answer.headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ), path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
    refused = await connect(allowed_hosts=["jobs.example.org"]).get("/")
    assert refused.status_code == 421
    assert "content-security-policy" in refused.headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("jobs.example.org", 200),
        ("JOBS.example.org:8080", 200),
        ("evil.example.org", 421),
        ("jobs.example.org.evil", 421),
    ],
)
async def test_a_host_that_is_not_allowed_is_refused(connect: Connect, host: str, status: int) -> None:
    client = connect(role=Role.VIEW, allowed_hosts=["jobs.example.org"])
    assert (await client.get("/", headers={"host": host})).status_code == status


async def test_without_authentication_this_machine_is_served_alone(
    connect: Connect, storage: MemoryQueueStorage
) -> None:
    assert (await connect(auth=None, host="localhost").get("/")).status_code == 200
    assert (await connect(auth=None, host="[::1]", client="::1").get("/")).status_code == 200
    away = await connect(auth=None, host="localhost", client="192.0.2.7").get("/")
    assert away.status_code == 403
    assert "no authentication" in away.text
    # A page of another site whose name leads to this machine (DNS rebinding).
    assert (await connect(auth=None, host="evil.example.org").get("/")).status_code == 421
    # A proxy on this machine passes on who asked.
    proxied = connect(auth=None, host="localhost", headers={"x-forwarded-for": "192.0.2.7"})
    assert (await proxied.get("/")).status_code == 403
    assert (await connect(auth=None, host="localhost", headers={"via": "1.1 proxy"}).get("/")).status_code == 403
    # A proxy reaches it through a Unix socket: no address says who asked.
    assert (await connect(create_app(storage), host="localhost", client=None).get("/")).status_code == 403


async def test_probes_answer_under_each_name_without_figures(connect: Connect) -> None:
    for client in (
        connect(auth=None, host="10.1.2.3:8080", client="10.1.2.1"),
        connect(allowed_hosts=["jobs.example.org"], host="10.1.2.3:8080", client="10.1.2.1"),
    ):
        for path in ("/livez", "/readyz"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert all(check == {"ok": True} for check in answer.json()["checks"].values())
        assert (await client.get("/")).status_code in (403, 421)


async def test_an_insecure_application_serves_everyone(connect: Connect) -> None:
    client = connect(auth=None, insecure_no_auth=True, allowed_hosts=["*"], client="192.0.2.7")
    assert (await client.get("/")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"sec-fetch-site": "same-origin"}, 303),
        ({"sec-fetch-site": "none"}, 303),
        ({"origin": "http://testserver"}, 303),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "http://testserver"}, 403),
        ({"origin": "http://evil.example.org"}, 403),
        ({"origin": "http://testserver:81"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": "http://testserver@evil.example.org"}, 403),
    ],
)
async def test_a_form_of_another_origin_is_refused(connect: Connect, headers: dict[str, str], status: int) -> None:
    answer = await connect(role=Role.ADMIN).post("/theme", data={"theme": "dark"}, headers=headers)
    assert answer.status_code == status


async def test_a_link_of_another_site_may_be_followed(connect: Connect) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert (await connect(role=Role.VIEW).get("/", headers=link)).status_code == 200
    # An image, a script or a stream would use it up, and the time it takes would say what a search found.
    for mode in ("no-cors", "cors"):
        answer = await connect(role=Role.VIEW).get("/jobs", headers={**link, "sec-fetch-mode": mode})
        assert answer.status_code == 403


async def test_a_body_and_an_address_are_bounded(connect: Connect) -> None:
    client = connect(role=Role.ADMIN)
    large = "theme=" + "x" * MAX_BODY
    assert (await client.post("/theme", content=large, headers=FORM)).status_code == 413

    async def chunks() -> object:
        for _ in range(MAX_BODY // 65_536 + 1):
            yield b"x" * 65_536

    assert (await client.post("/theme", content=chunks(), headers=FORM)).status_code == 413  # type: ignore[arg-type]
    wrong = {**FORM, "content-length": "9" * 5_000}
    assert (await client.post("/theme", content="theme=dark", headers=wrong)).status_code == 413
    assert (await client.get("/jobs", params={"q": "x" * MAX_URL})).status_code == 414
    fields = "&".join("id=x" for _ in range(3_000))
    assert (await client.post("/theme", content=fields, headers=FORM)).status_code == 400


async def test_basic_and_bearer_are_known(connect: Connect) -> None:
    client = connect()
    assert (await client.get("/", auth=("kai", PASSWORD))).status_code == 200
    for name, password in (("kai", PASSWORD + "x"), ("kay", PASSWORD), ("kai", ""), ("", PASSWORD)):
        assert (await client.get("/", auth=(name, password))).status_code == 303
    for wrong in ("Bearer", "Bearer x", "Basic !", "Basic a2Fp", "Digest x", "Bearer " + "x" * 3_000):
        answer = await client.get("/", headers={"authorization": wrong})
        assert answer.status_code == 303, wrong


async def test_secrets_cannot_be_guessed_quickly(connect: Connect) -> None:
    client = connect()
    for _ in range(ALLOWED):
        assert (await client.get("/", headers={"authorization": "Bearer guess"})).status_code == 303
    refused = await client.get("/", headers={"authorization": "Bearer guess"})
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "60"


async def test_guesses_of_others_do_not_keep_out_who_is_logged_in(
    connect: Connect, storage: MemoryQueueStorage
) -> None:
    # They may have one address: that of the proxy.
    app = create_app(storage, auth=credentials())
    client = connect(app)
    await client.post("/login", data={"name": "kai", "secret": PASSWORD})
    for _ in range(ALLOWED):
        assert (await connect(app).post("/login", data={"secret": "guess"})).status_code == 401
    assert (await client.get("/")).status_code == 200
    assert (await client.get("/login")).status_code == 303
    refused = await client.post("/login", data={"name": "kai", "secret": PASSWORD})
    assert refused.status_code == 429


async def test_an_outsider_learns_nothing_of_a_database_that_is_away(
    connect: Connect, storage: MemoryQueueStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(storage, auth=credentials())

    async def away() -> None:
        raise StorageUnavailableError("connection to server at 10.1.2.3 failed")

    monkeypatch.setattr(app.state.web, "open", away)
    for path in ("/login", "/api/v1/me"):
        answer = await connect(app).get(path)
        assert answer.status_code == 503
        assert "10.1.2.3" not in answer.text
    assert "10.1.2.3" in (await connect(app, role=Role.VIEW).get("/jobs")).text
    assert (await connect(app).get("/livez")).status_code == 200  # a restart would not help


async def test_requests_of_one_connection_do_not_share_who_asks(storage: MemoryQueueStorage) -> None:
    shared: dict[str, object] = {}
    app = create_app(storage, auth=credentials())

    async def passed_on(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": shared}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=passed_on), base_url="http://x") as client:
        assert (await client.get("/jobs", auth=("kai", PASSWORD))).status_code == 200
    assert shared == {}


async def test_an_error_of_ones_own_function_has_the_headers_too(storage: MemoryQueueStorage) -> None:
    def fails(request: Request) -> Identity | None:
        raise ValueError("secret")

    transport = httpx.ASGITransport(app=create_app(storage, auth=fails), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.get("/")
    assert answer.status_code == 500
    assert "content-security-policy" in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    assert "secret" not in answer.text


@pytest.mark.parametrize("host", ["https://jobs.example.org", "jobs.example.org:8080", "*.example.org", "[::1]"])
async def test_a_name_that_no_host_has_is_refused(storage: MemoryQueueStorage, host: str) -> None:
    with pytest.raises(ConfigurationError, match="without scheme and port"):
        create_app(storage, allowed_hosts=[host])


async def test_a_function_of_ones_own_says_who_asks(connect: Connect) -> None:
    async def auth(request: Request) -> Identity | None:
        name = request.headers.get("x-user")
        return None if name is None else Identity(name, Role.VIEW)

    client = connect(auth=auth)
    known = await client.get("/", headers={"x-user": "kai"})
    assert known.status_code == 200
    assert "kai" in known.text
    assert (await client.get("/")).status_code == 401  # it has no login page


async def test_a_function_that_answers_anything_else_is_an_error(connect: Connect) -> None:
    with pytest.raises(ConfigurationError, match="auth must return an Identity or None, not a str"):
        await connect(auth=lambda request: "kai").get("/")
