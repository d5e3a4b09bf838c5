"""Failed jobs, grouped by their error."""

from __future__ import annotations

from jobq_core.failures import NEWEST, failures
from jobq_server.web.call import Call
from jobq_server.web.rendering import View
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Role

routes = Routes()


@routes.get("/failed", access=Role.VIEW)
async def failed(call: Call) -> View:
    """Show the groups of the newest failed jobs, the largest first."""
    queue = call.query("queue") or None
    groups = await failures(call.storage, queue=queue)
    return View(
        "failed.html",
        {
            "groups": groups,
            "hidden": call.web.payloads.hides(call.identity),
            "is_all": sum(group.jobs for group in groups) < NEWEST,
            "most": max((group.jobs for group in groups), default=1),
            "newest": NEWEST,
            "queue": queue,
            "storage_now": await call.storage.now(),
        },
    )
