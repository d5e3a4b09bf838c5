"""`/live`: the renewed parts of an open page, as server-sent events.

The stream asks the page's own function again, at the address that the browser shows, when something happened in the
storage or after a while, and sends the parts whose HTML is another now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from jobq_core.errors import JobQueueError
from jobq_core.storage import FINISHED_TOPIC, PROGRESS_TOPIC, REQUEST_TOPIC, WAITING_TOPIC
from jobq_server.web.call import Call
from jobq_server.web.paths import base_of, is_local
from jobq_server.web.problems import Problem, problem_of
from jobq_server.web.rendering import View
from jobq_server.web.routing import Guarded, Routes, check_access
from jobq_server.web.security.identity import Role
from jobq_server.web.streams import event

logger = logging.getLogger("jobq.web")
routes = Routes()

SHORTEST_SECONDS: Final = 1.0
"""Minimum interval between two looks of one stream."""
LONGEST_SECONDS: Final = 5.0
"""After this time without a notification, a stream looks all the same."""
TOPICS: Final = (FINISHED_TOPIC, PROGRESS_TOPIC, REQUEST_TOPIC, WAITING_TOPIC)


@routes.get("/live", access=Role.VIEW)
async def live(call: Call) -> Response:
    """Follow a page."""
    scope, guarded = find_page(call, call.query("at"))
    check_access(guarded.declared.access, scope)
    return call.web.streams.respond(call.client, _follow(call, scope, guarded))


def find_page(call: Call, at: str) -> tuple[Scope, Guarded]:
    """Return the request for a page of this application, and what answers it. Raises Problem for anything else."""
    parts = urlsplit(at) if is_local(at) else None
    if parts is None or parts.scheme or parts.netloc or parts.path.startswith("/api/"):
        raise Problem(404, "there is no such page")
    scope = dict(call.request.scope)
    scope |= {
        "path": base_of(scope) + parts.path,
        "raw_path": None,
        "query_string": parts.query.encode("latin-1", "replace"),
        "method": "GET",
    }
    for route in call.request.app.routes:
        match, found = route.matches(scope)
        if match is Match.FULL and isinstance(route, Route) and isinstance(route.endpoint, Guarded):
            if route.path in ("/live", "/login"):
                break
            return {**scope, **found}, route.endpoint
    raise Problem(404, "there is no such page")


async def _follow(call: Call, scope: Scope, guarded: Guarded) -> AsyncGenerator[bytes, None]:
    sent: dict[str, str] = {}
    key = scope["path"], scope["query_string"], call.identity.role
    async with call.storage.subscribe(TOPICS) as subscription:
        while True:
            try:
                parts = await call.web.looks.get(key, partial(_look, call, scope, guarded))
            except (Problem, JobQueueError) as error:
                problem = problem_of(error)
                if problem is not None and problem.status < 500:  # such as a deleted job: the page itself says so
                    yield event("", name="leave")
                    return
                logger.warning("a live page cannot be read: %s", error)
                parts = {}
            changed = {name: html for name, html in parts.items() if sent.get(name) != html}
            # The page that the browser has is as new as the first look: it goes along once, to be sure.
            if changed:
                sent |= changed
                yield event(msgspec.json.encode(changed), name="parts")
            await asyncio.sleep(SHORTEST_SECONDS)
            await subscription.wait(LONGEST_SECONDS - SHORTEST_SECONDS)


async def _look(call: Call, scope: Scope, guarded: Guarded) -> dict[str, str]:
    async with asyncio.timeout(guarded.declared.seconds):
        view = await guarded.declared.endpoint(Call(Request(scope), call.identity))
    return view.render_live(scope) if isinstance(view, View) else {}
