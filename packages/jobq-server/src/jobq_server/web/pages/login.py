"""Logging in and out, and the choice of light or dark."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from jobq_server.web.call import Call
from jobq_server.web.paths import is_local
from jobq_server.web.problems import Problem
from jobq_server.web.rendering import THEME_COOKIE, THEMES, View
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Identity
from jobq_server.web.security.sessions import Sessions

routes = Routes()

YEAR: Final = 365 * 86_400


@routes.get("/login", access="public")
async def login(call: Call) -> View | Response:
    """Show the form. Who is logged in goes on to the page."""
    _check_has_login(call)
    if call.request.scope["state"]["identity"] is not None:
        return call.redirect(call.query("to", "/"))
    return View("login.html", {"to": _back(call.query("to", "/")), "wrong": False, "name": ""})


@routes.post("/login", access="public")
async def log_in(call: Call) -> View | Response:
    """Set the cookie of who gave a valid password or token."""
    sessions = _check_has_login(call)
    form = await call.form()
    name, secret = str(form.get("name", "")).strip(), str(form.get("secret", ""))
    client = call.request.client.host if call.request.client else ""
    call.web.attempts.check(client)
    identity = _find(call, name, secret)
    if identity is None:
        call.web.attempts.record(client)
        shown = {"to": _back(str(form.get("to", "/"))), "wrong": True, "name": name}
        return View("login.html", shown, status=401)
    response = call.redirect(_back(str(form.get("to", "/"))))
    sessions.start(call.request, response, identity)
    return response


@routes.post("/logout", access="public")
async def log_out(call: Call) -> Response:
    """Remove the cookie."""
    response = call.redirect("/login")
    _check_has_login(call).end(call.request, response)
    return response


@routes.post("/theme", access="public")
async def choose_theme(call: Call) -> Response:
    """Keep the choice of light or dark in a cookie; any other value removes it, and the system's choice holds."""
    form = await call.form()
    theme = str(form.get("theme", ""))
    response = call.redirect(_back(str(form.get("to", "/"))))
    chosen = theme in THEMES
    response.set_cookie(
        THEME_COOKIE,
        theme if chosen else "",
        max_age=YEAR if chosen else 0,
        path=call.url("") or "/",
        httponly=True,
        samesite="lax",
    )
    return response


def _find(call: Call, name: str, secret: str) -> Identity | None:
    credentials = call.web.credentials
    if credentials is None:
        return None
    return credentials.of_user(name, secret) if name else credentials.of_token(secret)


def _check_has_login(call: Call) -> Sessions:
    sessions = call.web.sessions
    if sessions is None:
        raise Problem(404, "this application has no login of its own")
    return sessions


def _back(path: str) -> str:
    return path if is_local(path) else "/"
