"""The audit: what operators did."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from jobq_core.storage import Action
from jobq_server.web.call import Call
from jobq_server.web.filters import parse_uuid
from jobq_server.web.rendering import View
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Role

routes = Routes()

PAGE: Final = 100
JOB_ACTIONS: Final = frozenset({*Action, "add", "stack"})


@routes.get("/audit", access=Role.VIEW)
async def audit(call: Call) -> View:
    """Show what operators did, newest first: to all, or to one job, queue, worker or operation."""
    target = call.query("target")[:255] or None
    after = parse_uuid(call.query("after"), "after") if call.query("after") else None
    entries = await call.storage.audit(target=target, after=after, limit=PAGE + 1)
    return View(
        "audit.html",
        {
            "after": after,
            "brief": brief,
            "entries": entries[:PAGE],
            "JOB_ACTIONS": JOB_ACTIONS,
            "next": entries[PAGE - 1].id if len(entries) > PAGE else None,
            "storage_now": await call.storage.now(),
            "target": target,
        },
    )


def brief(details: Any) -> str:
    """Return the details of an entry in a line."""
    if details is None or isinstance(details, str):
        return details or ""
    if isinstance(details, dict):
        return ", ".join(f"{name} {value}" for name, value in details.items())
    return msgspec.json.encode(details).decode()
