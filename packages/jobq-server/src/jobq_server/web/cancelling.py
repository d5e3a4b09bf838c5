"""Cancelling a bulk operation, for pages and API."""

from __future__ import annotations

from uuid import UUID

from jobq_core.operations import get
from jobq_server.web.actions import ACTIONS, audit
from jobq_server.web.call import Call


async def cancel_operation(call: Call) -> tuple[UUID, bool]:
    """Cancel the operation of a request's path; return its id, and whether it was running."""
    operation_id = call.path_id()
    found = await get(call.storage, operation_id)
    call.require(ACTIONS[found.action].role)
    cancelled = await call.storage.cancel_operation(operation_id)
    if cancelled:
        await audit(call.storage, call.actor, "cancel", operation_id)
    return operation_id, cancelled
