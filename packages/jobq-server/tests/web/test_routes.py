"""Each route needs the role that it declares: all routes, with all roles."""

from __future__ import annotations

import re

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from jobq_core import ConfigurationError
from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_server.web import Role, create_app
from jobq_server.web.routing import Declared, Guarded, check_routes

from .helpers import Connect, credentials


def declared(app: Starlette) -> list[Declared]:
    return [route.endpoint.declared for route in app.routes if isinstance(route, Route)]  # type: ignore[attr-defined]


ROUTES = declared(create_app("memory://", auth=credentials()))
GUARDED = [one for one in ROUTES if one.access != "public"]


def address(one: Declared) -> str:
    """Return an address of a route, of things that do not exist."""
    path = one.path.replace("{id}", str(new_id()))
    return re.sub(r"\{\w+(:\w+)?\}", "nothing", path)


def name(one: Declared) -> str:
    return f"{one.method} {one.path}"


def test_the_routes_before_a_login_are_these() -> None:
    public = {name(one) for one in ROUTES if one.access == "public"}
    assert public == {"GET /livez", "GET /login", "GET /readyz", "POST /login", "POST /logout", "POST /theme"}


@pytest.mark.parametrize("one", GUARDED, ids=name)
async def test_a_route_answers_nobody_who_is_not_known(connect: Connect, one: Declared) -> None:
    answer = await connect().request(one.method, address(one))
    if one.method == "GET" and not one.path.startswith("/api/"):
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")
    else:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("one", GUARDED, ids=name)
async def test_a_route_answers_the_roles_that_cover_its_own(connect: Connect, one: Declared) -> None:
    assert isinstance(one.access, Role)
    for role in Role:
        answer = await connect(role=role).request(one.method, address(one))
        refused = answer.status_code == 403 and "this needs the role" in answer.text.lower()
        assert refused is not role.covers(one.access), (role, answer.status_code, answer.text)


async def hello(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


async def test_an_application_with_a_route_without_a_role_is_refused(storage: MemoryQueueStorage) -> None:
    app = create_app(storage)
    app.router.routes.append(Route("/hello", hello))
    with pytest.raises(ConfigurationError, match="the route '/hello' declares no role; declare it with Routes"):
        check_routes(app.routes, ["/static"])


async def test_a_route_with_an_unknown_role_is_refused() -> None:
    wrong = Declared(method="GET", path="/hello", access="everyone", endpoint=hello)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="has the role 'everyone'"):
        check_routes([Route("/hello", Guarded(wrong))])
