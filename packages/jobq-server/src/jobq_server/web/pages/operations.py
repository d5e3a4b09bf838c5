"""Bulk operations: how far they are, and how they ended."""

from __future__ import annotations

from starlette.responses import Response

from jobq_core.operations import get
from jobq_server.web.actions import ACTIONS
from jobq_server.web.call import Call
from jobq_server.web.cancelling import cancel_operation
from jobq_server.web.filters import describe
from jobq_server.web.notices import with_notice
from jobq_server.web.rendering import View
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Role

routes = Routes()


@routes.get("/operations", access=Role.VIEW)
async def operations(call: Call) -> View:
    """Show the newest operations."""
    return View(
        "operations.html",
        {
            "ACTIONS": ACTIONS,
            "describe": lambda wanted: describe(call.web.payloads.filter(call.identity, wanted)),
            "operations": await call.storage.operations(limit=100),
            "storage_now": await call.storage.now(),
        },
    )


@routes.get("/operations/{id}", access=Role.VIEW)
async def operation(call: Call) -> View:
    """Show one operation."""
    found = await get(call.storage, call.path_id())
    return View(
        "operation.html",
        {
            "info": ACTIONS[found.action],
            "filter_text": describe(call.web.payloads.filter(call.identity, found.filter)),
            "operation": found,
            "storage_now": await call.storage.now(),
        },
    )


@routes.post("/operations/{id}/cancel", access=Role.OPERATE)
async def cancel(call: Call) -> Response:
    """Cancel the rest of an operation, after the slice that is in progress."""
    operation_id, cancelled = await cancel_operation(call)
    return call.redirect(with_notice(f"/operations/{operation_id}", "cancel", int(cancelled)))
