"""Logging in and out with a cookie."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from jobq_core import ConfigurationError
from jobq_core.memory import MemoryQueueStorage
from jobq_server.web import Credentials, Role, create_app
from jobq_server.web.security.credentials import MIN_SECRET
from jobq_server.web.security.sessions import SESSION_SECONDS, Sessions

from .helpers import PASSWORD, TOKENS, Connect, credentials

COOKIE = Sessions(credentials()).cookie


@pytest.mark.parametrize(
    "given", [{"name": "kai", "secret": PASSWORD}, {"name": "", "secret": TOKENS[Role.VIEW]}], ids=["user", "token"]
)
async def test_a_login_sets_a_cookie_and_leads_back(connect: Connect, given: dict[str, str]) -> None:
    client = connect()
    asked = await client.get("/jobs?queue=mail")
    assert asked.headers["location"] == "/login?to=%2Fjobs%3Fqueue%3Dmail"
    assert 'value="/jobs?queue=mail"' in (await client.get(asked.headers["location"])).text
    logged_in = await client.post("/login", data={**given, "to": "/jobs?queue=mail"})
    assert logged_in.headers["location"] == "/jobs?queue=mail"
    cookie = logged_in.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie
    assert (await client.get("/jobs?queue=mail")).status_code == 200
    await client.post("/logout", content="", headers={"content-type": "application/x-www-form-urlencoded"})
    assert (await client.get("/jobs")).status_code == 303


async def test_a_cookie_over_https_is_secure(connect: Connect) -> None:
    client = connect()
    answer = await client.post("https://testserver/login", data={"name": "kai", "secret": PASSWORD})
    assert "Secure" in answer.headers["set-cookie"]


async def test_a_wrong_secret_is_refused(connect: Connect) -> None:
    answer = await connect().post("/login", data={"name": "kai", "secret": "something else"})
    assert answer.status_code == 401
    assert "Wrong name, password or token" in answer.text
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "to", ["https://evil.example.org/", "//evil.example.org", "/\\evil.example.org", "jobs", "/\n"]
)
async def test_a_login_leads_to_no_other_site(connect: Connect, to: str) -> None:
    answer = await connect().post("/login", data={"name": "kai", "secret": PASSWORD, "to": to})
    assert answer.headers["location"] == "/"


DAMAGE = {
    "another signature": lambda cookie: cookie[:-1] + ("0" if cookie[-1] != "0" else "1"),
    "other data": lambda cookie: "x" + cookie,
    "no signature": lambda cookie: cookie.partition(".")[0],
    "nothing": lambda cookie: ".",
}


async def test_two_dashboards_of_one_host_keep_their_logins_apart(
    connect: Connect, storage: MemoryQueueStorage
) -> None:
    # A browser sends the cookies of a host to each of its ports, and those of a path to the paths below.
    other = create_app(storage, auth=Credentials(users={"kai": ("another long password", Role.ADMIN)}))
    both = connect(Starlette(routes=[Mount("/ops", other), Mount("/", create_app(storage, auth=credentials()))]))
    await both.post("/ops/login", data={"name": "kai", "secret": "another long password"})
    await both.post("/login", data={"name": "kai", "secret": PASSWORD})
    assert [(await both.get(path)).status_code for path in ("/jobs", "/ops/jobs")] == [200, 200]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
async def test_a_cookie_that_was_changed_is_worth_nothing(connect: Connect, damage: Callable[[str], str]) -> None:
    client = connect()
    answer = await client.post("/login", data={"name": "kai", "secret": PASSWORD})
    cookie = answer.cookies[COOKIE]
    client.cookies.clear()
    assert (await client.get("/", headers={"cookie": f"{COOKIE}={cookie}"})).status_code == 200
    assert (await client.get("/", headers={"cookie": f"{COOKIE}={damage(cookie)}"})).status_code == 303


async def test_a_cookie_ends_with_its_time_and_with_its_secret(connect: Connect) -> None:
    client = connect()
    cookie = (await client.post("/login", data={"name": "kai", "secret": PASSWORD})).cookies[COOKIE]

    def known(with_: Credentials, at: float | None = None) -> bool:
        sessions = Sessions(with_) if at is None else Sessions(with_, lambda: at)
        scope = {"type": "http", "headers": [(b"cookie", f"{sessions.cookie}={cookie}".encode())]}
        return sessions(Request(scope)) is not None

    assert known(credentials())
    assert not known(credentials(), time.time() + SESSION_SECONDS + 1)
    assert not known(Credentials(users={"kai": ("another long password", Role.ADMIN)}))


async def test_a_link_of_another_site_finds_who_is_logged_in(connect: Connect) -> None:
    # A strict cookie is not sent with the link itself: the page asks for itself once more.
    answer = await connect().get("/jobs?queue=mail", headers={"sec-fetch-site": "cross-site"})
    assert answer.headers["refresh"] == "0;url=/jobs?queue=mail&again=1"
    again = await connect().get("/jobs?queue=mail&again=1", headers={"sec-fetch-site": "cross-site"})
    assert again.status_code == 303
    odd = await connect().get("/jobs/%E2%82%AC%0D%0AX-Evil:1", headers={"sec-fetch-site": "cross-site"})
    assert odd.headers["refresh"] == "0;url=/jobs/%E2%82%AC%0D%0AX-Evil%3A1?again=1"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "at least one token or user"),
        ({"tokens": {"short": ("ci", "view")}}, f"at least {MIN_SECRET} characters"),
        ({"users": {"kai": (PASSWORD, "root")}}, "unknown role 'root'; expected one of view, operate, admin"),
        ({"users": {"kai": (PASSWORD, "view")}, "tokens": {"x" * 12: ("kai", "view")}}, "called 'kai'"),
        ({"tokens": {" 0123456789ab": ("ci", "view")}}, "must not begin or end with a space"),
        ({"tokens": {" " * 12: ("ci", "view")}}, "must not begin or end with a space"),
        ({"users": {"kai": ("0123456789ab\n", "view")}}, "nor hold a line end"),
        ({"tokens": {"0123456789äöü": ("ci", "view")}}, "must be ASCII"),
    ],
)
def test_credentials_that_cannot_work_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Credentials(**options)  # type: ignore[arg-type]


def test_credentials_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "web.toml"
    path.write_text(
        '[tokens.ci]\ntoken = "0123456789ab"\nrole = "operate"\n'
        '[users.kai]\npassword = "0123456789cd"\nrole = "admin"\n'
    )
    read = Credentials.from_file(path)
    found = read.of_token("0123456789ab")
    assert found is not None
    assert (found.name, found.role) == ("ci", Role.OPERATE)
    assert read.of_user("kai", "0123456789cd") is not None
    twice = '[tokens.ci]\ntoken = "0123456789ab"\nrole = "view"\n'
    path.write_text(f'{twice}[tokens.cd]\ntoken = "0123456789ab"\nrole = "admin"\n')
    with pytest.raises(ConfigurationError, match="'cd' and 'ci' have the same token"):
        Credentials.from_file(path)
    path.write_text(twice)
    with pytest.raises(ConfigurationError, match="'ci' and 'token' have the same token"):
        Credentials.from_file(path, tokens={"0123456789ab": ("token", "admin")})
    path.write_text('[users.kai]\npassword = "0123456789cd"\n')
    with pytest.raises(ConfigurationError, match=r"\[users\.kai\] must have password and role"):
        Credentials.from_file(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Credentials.from_file(tmp_path / "none.toml")
