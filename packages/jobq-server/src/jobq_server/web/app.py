"""`create_app`: the web application, for a server of its own or mounted in another ASGI application."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Match, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from jobq_core.checks import check_count
from jobq_core.errors import ConfigurationError
from jobq_core.owned_storage import OwnedStorage
from jobq_core.registry import Jobs, Registry
from jobq_core.reprs import short_repr
from jobq_core.storage import QueueStorage
from jobq_server.web import api, pages, probes
from jobq_server.web.paths import base_of, path_of
from jobq_server.web.problems import Problem, problem_of
from jobq_server.web.rendering import FOLDER
from jobq_server.web.routing import check_routes, to_routes
from jobq_server.web.security.credentials import Credentials
from jobq_server.web.security.door import HEADERS, PROBES, Auth, Door, hostname_of
from jobq_server.web.security.identity import Role
from jobq_server.web.security.payloads import Payloads
from jobq_server.web.state import Web
from jobq_server.web.streams import Streams

if TYPE_CHECKING:
    from jobq_server.server import JobQueueServer

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
STATIC: Final = "/static"
NOT_KEPT: Final = {"cache-control": "no-store"}


def create_app(
    storage: QueueStorage | str | None = None,
    *,
    auth: Auth | Sequence[Auth] | None = None,
    jobs: Jobs = (),
    hide_payloads: Iterable[Role | str] = (),
    allowed_hosts: Collection[str] | None = None,
    root_path: str = "",
    title: str = "jobq",
    max_streams: int = 100,
    insecure_no_auth: bool = False,
    server: JobQueueServer | None = None,
) -> Starlette:
    """Return the dashboard and the HTTP API as an ASGI application.

    storage: a URL, which the application opens and closes (default: the environment variable JOBQ_STORAGE); or an open
        QueueStorage, which the caller closes.
    auth: who makes a request: `Credentials`, or a function, sync or async, from Starlette's Request to an Identity or
        None; or several, which are asked in turn. Credentials have a login page. With None (default), the application
        answers requests from this machine alone, all with the role of an admin.
    jobs: the declared jobs, whose Secret arguments are not shown, and whose arguments are checked where one is added.
    hide_payloads: the roles that do not see arguments, results, headers, progress, logs, and the messages and
        tracebacks of errors (default: none).
    allowed_hosts: the names by which the application is reached, as in a request's Host; '*' allows all (default:
        localhost and its addresses without `auth`, else all).
    root_path: where a proxy serves the application, if it removes that part of the path (default: nowhere else). A path
        at which another ASGI application mounts this one is known without it.
    title: what the pages are called (default 'jobq').
    max_streams: how many live streams may be open at a time (default 100); half of them by one identity, or one address
        without `auth`.
    insecure_no_auth: whether an application without `auth` answers requests from everywhere (default False).
    server: the pool beside it, whose health and metrics /livez, /readyz and /metrics show (default: the storage alone).

    Raises ConfigurationError for an option that cannot work.
    """
    checks = [] if auth is None else [auth] if callable(auth) else list(auth)
    if not all(map(callable, checks)):
        raise ConfigurationError("auth must be Credentials, a function of the request, or several of them")
    credentials = [check for check in checks if isinstance(check, Credentials)]
    if len(credentials) > 1:
        raise ConfigurationError("auth may have one Credentials: give it all tokens and users")
    registry = Registry(jobs)
    web = Web(
        owned=OwnedStorage(storage),
        registry=registry,
        credentials=credentials[0] if credentials else None,
        payloads=Payloads(hide_payloads, registry),
        streams=Streams(check_count(max_streams, "max_streams", least=0, most=100_000)),
        title=title,
        server=server,
    )
    if allowed_hosts is None:
        allowed_hosts = ("*",) if checks else LOCAL_HOSTS
    if isinstance(allowed_hosts, str):
        raise ConfigurationError("allowed_hosts must be a list of names, as in allowed_hosts=['jobs.example.org']")
    for host in allowed_hosts:
        _check_host(host)
    door = Middleware(
        Door,
        auth=checks if web.sessions is None else [*checks, web.sessions],
        hosts=allowed_hosts,
        anyone=insecure_no_auth,
        attempts=web.attempts,
    )
    app = Starlette(
        routes=[
            *to_routes([*probes.routes, *api.ROUTES, *pages.ROUTES]),
            Mount(STATIC, StaticFiles(directory=FOLDER / "static")),
        ],
        middleware=[Middleware(UnderRoot, root=_check_root(root_path)), door, Middleware(Opened, web=web)],
        exception_handlers={HTTPException: _answer_http_error, Exception: _answer_error},
        lifespan=_lifespan,
    )
    app.state.web = web
    app.router.redirect_slashes = False  # it would lead to the name in Host, and to http behind a proxy that speaks TLS
    check_routes(app.routes, [STATIC])
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncGenerator[None]:
    web: Web = app.state.web
    await web.open()
    try:
        yield
    finally:
        await web.close()


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """Answer what Starlette refuses: an unknown path or method."""
    assert isinstance(error, HTTPException)
    details = {404: "there is nothing at this address", 405: "this address does not take this method"}
    response = Problem(error.status_code, details.get(error.status_code, error.detail)).response(request.scope)
    response.headers.update(error.headers or {})
    if error.status_code == 405:  # Starlette names the methods of the first route alone
        response.headers["allow"] = ", ".join(sorted(_methods(request)))
    return response


def _methods(request: Request) -> set[str]:
    """Return the methods of all routes at the address of a request."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    here = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in here for method in route.methods or ()}


async def _answer_error(request: Request, error: Exception) -> Response:
    """Answer an error outside of the routes, such as one of the application's own `auth`."""
    return PlainTextResponse("an unexpected error; the log of the server has it", 500, {**HEADERS, **NOT_KEPT})


class UnderRoot:
    """Adds to each path the part that a proxy removed from it, as ASGI has it. root: begins with a slash, or ''."""

    def __init__(self, app: ASGIApp, root: str) -> None:
        self._app = app
        self._root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            base, path = base_of(scope), str(scope["path"])
            if not path.startswith(base):  # a FastAPI with `root_path` does not add what its proxy removed
                path = str(scope.get("app_root_path", "")) + path
            scope = {**scope, "root_path": base + self._root, "path": base + self._root + path.removeprefix(base)}
        await self._app(scope, receive, send)


class Opened:
    """Opens the storage before the first request, where no server told the application to start."""

    def __init__(self, app: ASGIApp, web: Web) -> None:
        self._app = app
        self._web = web

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                await self._web.open()
            except Exception as error:
                problem = problem_of(error)
                if problem is None:
                    raise
                if path_of(scope) not in PROBES:  # a restart would not help: the probes say what does not work
                    if scope["state"]["identity"] is None:  # an outsider learns nothing of the database
                        problem = Problem(problem.status, "the storage is unavailable", retry_after=5)
                    await problem.response(scope)(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _check_host(host: Any) -> None:
    named = isinstance(host, str) and hostname_of(f"[{host}]" if ":" in host else host) == host.lower()
    if host != "*" and (not named or "*" in host):
        raise ConfigurationError(
            f"allowed_hosts must be names without scheme and port, such as 'jobs.example.org', not {short_repr(host)}"
        )


def _check_root(root: Any) -> str:
    if not isinstance(root, str) or (root and (not root.startswith("/") or root.startswith("//"))):
        raise ConfigurationError(f"root_path must begin with a slash, as in root_path='/jobs', not {short_repr(root)}")
    return root.rstrip("/")
