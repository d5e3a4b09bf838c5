"""`Door`: what each request passes before its route: host, origin, size, and who makes it.

It is plain ASGI, and the outermost part of the application, so that each answer has the headers, also that of an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobq_core.errors import ConfigurationError
from jobq_server.web.paths import path_of
from jobq_server.web.problems import Problem
from jobq_server.web.security.attempts import Attempts
from jobq_server.web.security.identity import NOBODY, Identity

Auth: TypeAlias = Callable[[Request], Identity | Awaitable[Identity | None] | None]
"""Returns who makes a request, or None."""

MAX_BODY: Final = 512 * 1024
"""Bytes of a request's body: the arguments of a job and what is around them."""
MAX_URL: Final = 8 * 1024
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PROBES: Final = frozenset({"/livez", "/readyz"})
"""Paths that answer under each name and address, without figures: platforms ask by the address of a container."""
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
FORWARDED: Final = (
    "forwarded",
    "x-forwarded-",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "via",
)
"""What the names of the headers begin with that proxies add."""

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with "no-referrer", a form of our own over http would have the origin null
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Door:
    """Passes on the requests that may reach a route, with `identity` in their state.

    auth: who makes a request, in the order in which they are asked; empty for an application without authentication,
        which then serves this machine alone, unless `anyone`.
    hosts: the names that a request's Host may have; '*' allows all.
    """

    def __init__(
        self, app: ASGIApp, *, auth: Collection[Auth], hosts: Collection[str], anyone: bool, attempts: Attempts
    ) -> None:
        self._app = app
        self._auth = tuple(auth)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._anyone = anyone
        self._attempts = attempts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        # A dict of its own: some servers share theirs among all requests of a connection.
        state: dict[str, Any] = {**(scope.get("state") or {}), "identity": None}
        scope, bounded = {**scope, "state": state}, receive
        try:
            bounded = self._check(scope, receive)
            state["identity"] = await self._identify(Request(scope))
        except Problem as problem:
            if path_of(scope) not in PROBES:
                await problem.response(scope)(scope, receive, with_headers)
                return
        await self._app(scope, bounded, with_headers)

    def _check(self, scope: Scope, receive: Receive) -> Receive:
        headers = Headers(scope=scope)
        if len(scope["path"]) + len(scope["query_string"]) > MAX_URL:
            raise Problem(414, f"the address has more than {MAX_URL} bytes")
        if "\0" in scope["path"]:
            raise Problem(400, "the address holds a NUL character")
        host = hostname_of(headers.get("host", ""))
        if "*" not in self._hosts and host not in self._hosts:
            raise Problem(
                421,
                "this application does not serve the host that was asked for; name it in allowed_hosts (--allow-host)",
            )
        if scope["method"] not in SAFE_METHODS:
            _check_origin(headers)
        elif headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode", "navigate") != "navigate":
            raise Problem(403, "a page of another site may link here, and load nothing from here")
        return _bounded(headers, receive)

    async def _identify(self, request: Request) -> Identity | None:
        if not self._auth:
            self._check_local(request)
            return NOBODY
        client = request.client.host if request.client else ""
        if "authorization" in request.headers:
            self._attempts.check(client)
        for auth in self._auth:
            answer: Any = auth(request)
            found = await answer if inspect.isawaitable(answer) else answer
            if found is None:
                continue
            if not isinstance(found, Identity):
                raise ConfigurationError(f"auth must return an Identity or None, not a {type(found).__qualname__}")
            return found
        if "authorization" in request.headers:
            self._attempts.record(client)
        return None

    def _check_local(self, request: Request) -> None:
        """Refuse a request from elsewhere to an application without authentication."""
        if self._anyone or (
            request.client is not None  # a Unix socket, behind which a proxy may be
            and request.client.host in LOOPBACK
            and not any(name.startswith(FORWARDED) for name in request.headers)
            and request.scope.get("http_version") != "1.0"  # nginx, unless it is told to add headers or to speak 1.1
        ):
            return
        raise Problem(
            403,
            "this application has no authentication, and accepts requests only from this machine: "
            "give it `auth`, or credentials",
        )


def hostname_of(host: str) -> str:
    """Return the name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _check_origin(headers: Headers) -> None:
    """Refuse a request that a page of another origin sent (CSRF).

    Browsers send Sec-Fetch-Site to https and to this machine, and Origin with each POST. Other programs send neither.
    """
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    if site is not None:
        allowed = site in ("same-origin", "none")
    elif origin is not None:
        allowed = origin.partition("://")[2].lower() == headers.get("host", "").lower() != ""
    else:
        allowed = True
    if not allowed:
        raise Problem(
            403,
            "the request comes from a page of another origin; if it does not, the proxy in front changes the Host "
            "header: let it pass on Host as it is",
        )


def _bounded(headers: Headers, receive: Receive) -> Receive:
    """Return a `receive` that refuses a body of more than MAX_BODY bytes."""
    too_large = Problem(413, f"the body has more than {MAX_BODY} bytes")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 10 or int(length) > MAX_BODY:
        raise too_large
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY:
            raise too_large
        return message

    return bounded
