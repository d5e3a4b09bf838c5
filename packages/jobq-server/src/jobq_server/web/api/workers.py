"""Workers of all machines: their load, draining one, and the stacks of what runs."""

from __future__ import annotations

import asyncio
from typing import Final

from jobq_core.errors import JobNotFoundError
from jobq_core.storage import WorkerAction
from jobq_server.web.actions import ask
from jobq_server.web.api.declaring import ApiRoutes
from jobq_server.web.api.types import RequestView, StackBody, WorkerView
from jobq_server.web.api.views import worker_view
from jobq_server.web.call import Call
from jobq_server.web.pages.workers import get_worker
from jobq_server.web.security.identity import Role

routes = ApiRoutes("workers")

LOOK_SECONDS: Final = 0.2
"""Interval at which the answer of a worker is looked for."""


@routes.get("/workers", access=Role.VIEW, answer=list[WorkerView], name="list_workers")
async def workers(call: Call) -> list[WorkerView]:
    """Return all registered workers, oldest first."""
    now = await call.storage.now()
    return [worker_view(record, now) for record in await call.storage.workers()]


@routes.get("/workers/{id}", access=Role.VIEW, answer=WorkerView, errors=(404,), name="get_worker")
async def worker(call: Call) -> WorkerView:
    """Return one worker."""
    return worker_view(await get_worker(call), await call.storage.now())


@routes.post("/workers/{id}/drain", access=Role.ADMIN, answer=RequestView, errors=(404,), name="drain_worker")
async def drain(call: Call) -> RequestView:
    """Have a worker claim no more, let its running jobs finish, and stop."""
    worker_id = call.path_id()
    return RequestView(await ask(call.storage, worker_id, WorkerAction.DRAIN, None, call.actor), worker_id, None)


@routes.post(
    "/workers/{id}/stack", access=Role.OPERATE, body=StackBody, answer=RequestView, errors=(404,), name="stack_worker"
)
async def stack(call: Call, body: StackBody) -> RequestView:
    """Ask a worker for the stacks of its handlers, and wait for the answer.

    After the timeout, `answer` is null, and `GET /workers/{id}/requests/{request}` has it later.
    """
    worker_id = call.path_id()
    request_id = await ask(call.storage, worker_id, WorkerAction.STACK, body.job, call.actor)
    ends = asyncio.get_running_loop().time() + body.timeout
    while True:
        (request,) = await call.storage.get_requests([request_id])
        answer = None if request is None else request.answer
        if request is None or answer is not None or asyncio.get_running_loop().time() >= ends:
            return RequestView(request_id, worker_id, answer)
        await asyncio.sleep(LOOK_SECONDS)


@routes.get(
    "/workers/{id}/requests/{request}", access=Role.VIEW, answer=RequestView, errors=(404,), name="get_worker_request"
)
async def request(call: Call) -> RequestView:
    """Return a request to a worker, with its answer if there is one."""
    request_id = call.path_id("request")
    (found,) = await call.storage.get_requests([request_id])
    if found is None or found.worker != call.path_id():
        raise JobNotFoundError(f"no request {request_id}: it is older than an hour, or its worker stopped")
    return RequestView(found.id, found.worker, found.answer)
