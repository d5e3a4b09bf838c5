"""What each request passes before its route: host, origin, size, and who makes it."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from jobq_core import ConfigurationError
from jobq_server.web import Identity, Role
from jobq_server.web.security.attempts import ALLOWED
from jobq_server.web.security.door import MAX_BODY, MAX_URL

from .helpers import PASSWORD, Connect

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
        assert answer.headers["referrer-policy"] == "no-referrer"
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


async def test_without_authentication_this_machine_is_served_alone(connect: Connect) -> None:
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
    ],
)
async def test_a_form_of_another_origin_is_refused(connect: Connect, headers: dict[str, str], status: int) -> None:
    answer = await connect(role=Role.ADMIN).post("/theme", data={"theme": "dark"}, headers=headers)
    assert answer.status_code == status


async def test_a_link_of_another_site_may_be_followed(connect: Connect) -> None:
    assert (await connect(role=Role.VIEW).get("/", headers={"sec-fetch-site": "cross-site"})).status_code == 200


async def test_a_body_and_an_address_are_bounded(connect: Connect) -> None:
    client = connect(role=Role.ADMIN)
    large = "theme=" + "x" * MAX_BODY
    assert (await client.post("/theme", content=large, headers=FORM)).status_code == 413

    async def chunks() -> object:
        for _ in range(MAX_BODY // 65_536 + 1):
            yield b"x" * 65_536

    assert (await client.post("/theme", content=chunks(), headers=FORM)).status_code == 413  # type: ignore[arg-type]
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
