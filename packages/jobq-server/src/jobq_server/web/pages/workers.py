"""The workers of all machines; one worker with its jobs; draining one, and the stacks of what runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from starlette.responses import Response

from jobq_core.errors import JobNotFoundError
from jobq_core.records import WorkerRecord
from jobq_core.states import JobState
from jobq_core.storage import JobFilter, WorkerAction
from jobq_server.web.actions import ask
from jobq_server.web.call import Call
from jobq_server.web.filters import parse_uuid
from jobq_server.web.links import link
from jobq_server.web.notices import with_notice
from jobq_server.web.rendering import View
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Role

routes = Routes()

MAX_CURRENT: Final = 100
"""Running jobs of a worker that are listed."""


@routes.get("/workers", access=Role.VIEW)
async def workers(call: Call) -> View:
    """Show all workers, the lost ones first."""
    now = await call.storage.now()
    records = await call.storage.workers()
    return View(
        "workers.html",
        {
            "storage_now": now,
            "workers": sorted(records, key=lambda worker: (worker.is_alive(now), worker.info.name)),
            "versions_differ": differing(records),
        },
    )


def differing(workers: Sequence[WorkerRecord]) -> set[str]:
    """Return the names of what the workers have different versions of."""
    named = {(name, version) for worker in workers for name, version in worker.info.versions.items()}
    counts = Counter(name for name, _ in named)
    return {name for name, count in counts.items() if count > 1}


@routes.get("/workers/{id}", access=Role.VIEW)
async def worker(call: Call) -> View:
    """Show one worker, its running jobs, and the answer to a request."""
    record = await get_worker(call)
    asked = call.query("request")
    request = None
    if asked:
        (request,) = await call.storage.get_requests([parse_uuid(asked, "request")])
        if request is not None and request.worker != record.info.id:
            request = None
    running = JobFilter(worker=record.info.id, states=[JobState.PROCESSING])
    page = await call.storage.find(running, limit=MAX_CURRENT)
    return View(
        "worker.html",
        {
            "hidden": call.web.payloads.hides(call.identity),
            "jobs": page.jobs,
            "request": request,
            "asked": asked,
            "storage_now": await call.storage.now(),
            "worker": record,
        },
    )


@routes.post("/workers/{id}/stack", access=Role.OPERATE)
async def stack(call: Call) -> Response:
    """Ask a worker where its handlers are."""
    form = await call.form()
    job = parse_uuid(str(form["job"]), "job") if form.get("job") else None
    worker_id = call.path_id()
    request = await ask(call.storage, worker_id, WorkerAction.STACK, job, call.actor)
    return call.redirect(link("", "/workers", worker_id, request=request))


@routes.get("/workers/{id}/drain", access=Role.ADMIN)
async def ask_drain(call: Call) -> View:
    """Ask whether to drain a worker."""
    return View("drain.html", {"worker": await get_worker(call)})


@routes.post("/workers/{id}/drain", access=Role.ADMIN)
async def drain(call: Call) -> Response:
    """Have a worker claim no more, let its jobs finish, and stop."""
    await ask(call.storage, call.path_id(), WorkerAction.DRAIN, None, call.actor)
    return call.redirect(with_notice("/workers", "drain", 1))


async def get_worker(call: Call) -> WorkerRecord:
    """Return the worker of the path. Raises JobNotFoundError."""
    worker_id: UUID = call.path_id()
    for record in await call.storage.workers():
        if record.info.id == worker_id:
            return record
    raise JobNotFoundError(f"no worker {worker_id}: it has stopped, or was lost")
