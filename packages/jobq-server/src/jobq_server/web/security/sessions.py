"""`Sessions`: signed cookies by which a browser stays logged in.

A cookie names who logged in and until when. It is valid in each process that has the same credentials, and is so no
longer once one of them changes, or its owner is removed. Other credentials have a cookie of another name: browsers send
the cookies of a host to each of its ports, and to the paths below.
"""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from functools import cached_property
from typing import Final

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from jobq_server.web.security.credentials import Credentials
from jobq_server.web.security.identity import Identity

SESSION_SECONDS: Final = 12 * 3600
MAX_COOKIE: Final = 2048


class Session(Struct, frozen=True):
    """What a cookie says. until: seconds since 1970."""

    name: str
    until: int


class Sessions:
    """Makes and reads the cookies. clock: returns seconds since 1970."""

    def __init__(self, credentials: Credentials, clock: Callable[[], float] = time.time) -> None:
        self._credentials = credentials
        self._clock = clock

    @cached_property
    def cookie(self) -> str:
        """The name of the cookie."""
        return f"jobq_session_{self._sign('the name of the cookie')[:8]}"

    def __call__(self, request: Request) -> Identity | None:
        """Return who makes a request, by its cookie."""
        cookie = request.cookies.get(self.cookie, "")[:MAX_COOKIE]
        if not cookie:
            return None
        data, _, signature = cookie.partition(".")
        if not hmac.compare_digest(self._sign(data).encode(), signature.encode("utf-8", "replace")):
            return None
        session = msgspec.json.decode(urlsafe_b64decode(data), type=Session)
        return self._credentials.named(session.name) if session.until > self._clock() else None

    def start(self, request: Request, response: Response, identity: Identity) -> None:
        """Set the cookie of a browser that logged in."""
        session = Session(identity.name, int(self._clock()) + SESSION_SECONDS)
        data = urlsafe_b64encode(msgspec.json.encode(session)).decode()
        self._set(request, response, f"{data}.{self._sign(data)}", SESSION_SECONDS)

    def end(self, request: Request, response: Response) -> None:
        """Remove the cookie."""
        self._set(request, response, "", 0)

    def _set(self, request: Request, response: Response, value: str, seconds: int) -> None:
        response.set_cookie(
            self.cookie,
            value,
            max_age=seconds,
            path=request.scope.get("root_path", "") or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )

    def _sign(self, data: str) -> str:
        return hmac.digest(self._credentials.session_key, data.encode("utf-8", "replace"), "sha256").hex()
