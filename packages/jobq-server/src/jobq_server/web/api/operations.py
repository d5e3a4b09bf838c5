"""Bulk operations: one action on all jobs that match."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from jobq_core.operating import without_payloads
from jobq_core.operations import check_value, get, start
from jobq_server.web.actions import ACTIONS, audit
from jobq_server.web.api.declaring import ApiRoutes
from jobq_server.web.api.types import CancelledView, ListQuery, OperationBody, OperationView, PreviewView
from jobq_server.web.api.views import operation_view, to_filter
from jobq_server.web.call import Call
from jobq_server.web.cancelling import cancel_operation
from jobq_server.web.filters import describe
from jobq_server.web.pages.jobs import check_may_search
from jobq_server.web.security.identity import Role

routes = ApiRoutes("operations")


@routes.get("/operations", access=Role.VIEW, query=ListQuery, answer=list[OperationView], name="list_operations")
async def operations(call: Call, query: ListQuery) -> list[OperationView]:
    """Return the newest operations, newest first."""
    return [operation_view(call, one) for one in await call.storage.operations(limit=query.limit)]


@routes.post(
    "/operations",
    access=Role.OPERATE,
    body=OperationBody,
    answer=OperationView,
    status=202,
    also={200: PreviewView},
    name="start_operation",
)
async def begin(call: Call, body: OperationBody) -> OperationView | Response:
    """Start an operation, or count the jobs that it would be for.

    With dry_run it answers 200 and the number of jobs that match. Deleting needs the role admin. Jobs that are added
    later are left alone. The work goes on in slices after the answer: see `GET /operations/{id}`.
    """
    info = ACTIONS[body.action]
    call.require(info.role)
    wanted = to_filter(body.filter)
    check_may_search(call, wanted)
    value = check_value(body.action, body.value)
    if body.dry_run:
        preview = PreviewView(await call.storage.count(wanted))
        return Response(msgspec.json.encode(preview), 200, media_type="application/json")
    operation = await start(call.storage, body.action, wanted, value=value, actor=call.actor)
    await audit(call.storage, call.actor, body.action.value, operation.id, details=describe(without_payloads(wanted)))
    call.web.bulk.begin(call.storage, operation)
    return operation_view(call, operation)


@routes.get("/operations/{id}", access=Role.VIEW, answer=OperationView, errors=(404,), name="get_operation")
async def operation(call: Call) -> OperationView:
    """Return one operation, and how far it is."""
    return operation_view(call, await get(call.storage, call.path_id()))


@routes.post(
    "/operations/{id}/cancel", access=Role.OPERATE, answer=CancelledView, errors=(404,), name="cancel_operation"
)
async def cancel(call: Call) -> CancelledView:
    """Cancel the rest of an operation, after the slice that is in progress. What it has done stays done."""
    return CancelledView(*await cancel_operation(call))
