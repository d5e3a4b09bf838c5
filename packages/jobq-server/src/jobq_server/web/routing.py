"""`Routes`: declarations of routes, each with the role that it needs, and the endpoint that keeps to it.

A route is declared where its function is, and cannot be declared without its access:

    routes = Routes()

    @routes.get("/jobs", access=Role.VIEW)
    async def jobs(call: Call) -> View: ...

`check_routes` refuses, at the start, an application with a route that was added past these declarations.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias, TypeVar
from urllib.parse import quote

import attrs
import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from jobq_core.errors import ConfigurationError
from jobq_server.web.call import Call
from jobq_server.web.paths import base_of, is_api
from jobq_server.web.problems import Problem, problem_of
from jobq_server.web.rendering import View
from jobq_server.web.security.identity import Identity, Role

logger = logging.getLogger("jobq.web")

Access: TypeAlias = Role | Literal["public"]
Endpoint: TypeAlias = Callable[[Call], Awaitable[Any]]
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

REQUEST_SECONDS: Final = 30.0
"""maximum time of one request, streams excepted."""
CHALLENGE: Final = 'Bearer realm="jobq", Basic realm="jobq"'


@attrs.frozen(kw_only=True)
class Declared:
    """A declared route.

    access: the role that it needs; 'public' for what is shown before a login. described: what the API's document says
    of it, of the API alone. seconds: the maximum time of one request.
    """

    method: str
    path: str
    access: Access
    endpoint: Endpoint
    described: Any = None
    seconds: float = REQUEST_SECONDS


class Routes:
    """The routes of one module."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._declared: list[Declared] = []

    def __iter__(self) -> Iterator[Declared]:
        return iter(self._declared)

    def get(self, path: str, *, access: Access, **options: Any) -> Callable[[F], F]:
        """Decorate the function that answers GET."""
        return self.add("GET", path, access=access, **options)

    def post(self, path: str, *, access: Access, **options: Any) -> Callable[[F], F]:
        """Decorate the function that answers POST."""
        return self.add("POST", path, access=access, **options)

    def add(self, method: str, path: str, *, access: Access, **options: Any) -> Callable[[F], F]:
        """Decorate the function that answers a method."""

        def declare(endpoint: F) -> F:
            self._declared.append(
                Declared(method=method, path=self._prefix + path, access=access, endpoint=endpoint, **options)
            )
            return endpoint

        return declare


class Guarded:
    """The ASGI endpoint of a declared route: checks the role, bounds the time, and answers for each error."""

    def __init__(self, declared: Declared) -> None:
        self.declared = declared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            identity = check_access(self.declared.access, scope)
            async with asyncio.timeout(self.declared.seconds):
                answer = await self.declared.endpoint(Call(Request(scope, receive), identity))
            response = to_response(answer, scope)
        except ToLogin as asked:
            response = asked.response(scope)
        except TimeoutError:
            response = Problem(503, "the response took too long", retry_after=5).response(scope)
        except Exception as error:
            problem = problem_of(error)
            if problem is None or problem.status == 500:
                logger.exception("%s %r failed unexpectedly", scope["method"], scope["path"])
                problem = Problem(500, "an unexpected error; the log of the server has it")
            response = problem.response(scope)
        await response(scope, receive, send)


class ToLogin(Exception):  # noqa: N818 - not an error: the browser is sent to the login
    """A page was asked for by a browser that has to log in first."""

    def response(self, scope: Scope) -> Response:
        """Return a redirection to the login, which leads back to the page."""
        request = Request(scope)
        if request.headers.get("sec-fetch-site") == "cross-site" and "again" not in request.query_params:
            # A strict cookie is not sent with a link of another site; it is with the same address asked for from here.
            address = f"{quote(scope['path'])}?{request.url.include_query_params(again=1).query}"
            return Response(status_code=200, headers={"refresh": f"0;url={address}"})
        query = scope["query_string"].decode("latin-1")
        back = str(scope["path"])[len(base_of(scope)) :] + (f"?{query}" if query else "")
        login = request.url.replace(path=f"{base_of(scope)}/login", query="").include_query_params(to=back)
        return RedirectResponse(f"{login.path}?{login.query}", 303)


def check_access(access: Access, scope: Scope) -> Identity | None:
    """Return who makes a request that the route may answer. Raises Problem, or ToLogin."""
    identity: Identity | None = scope["state"]["identity"]
    if access == "public":
        return identity
    if identity is None:
        if not is_api(scope) and scope["method"] == "GET" and scope["app"].state.web.sessions is not None:
            raise ToLogin
        raise Problem(401, "log in, or send a token as `Authorization: Bearer …`", challenge=CHALLENGE)
    if not identity.role.covers(access):
        raise Problem(403, f"this needs the role {access.value!r}; {identity.name} has {identity.role.value!r}")
    return identity


def to_response(answer: Any, scope: Scope) -> Response:
    """Return the response for what a function answered: a Response, a View, or a value for JSON."""
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, View):
        return Response(answer.render(scope), answer.status, media_type="text/html")
    if answer is None:
        return Response(status_code=204)
    return Response(msgspec.json.encode(answer), media_type="application/json")


def to_routes(declared: Iterable[Declared]) -> list[BaseRoute]:
    """Return Starlette's routes of the declared ones."""
    return [Route(one.path, Guarded(one), methods=[one.method]) for one in declared]


def check_routes(routes: Iterable[BaseRoute], public_mounts: Iterable[str] = ()) -> None:
    """Raise ConfigurationError for a route that declares no role."""
    allowed = set(public_mounts)
    for route in routes:
        if isinstance(route, Mount) and route.path in allowed:
            continue
        if not isinstance(route, Route) or not isinstance(route.endpoint, Guarded):
            raise ConfigurationError(
                f"the route {getattr(route, 'path', route)!r} declares no role; declare it with Routes"
            )
        access = route.endpoint.declared.access
        if access != "public" and not isinstance(access, Role):
            raise ConfigurationError(f"the route {route.path!r} has the role {access!r}; expected a Role, or 'public'")
