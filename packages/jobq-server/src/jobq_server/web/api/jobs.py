"""Jobs: finding, adding and changing them, why they do not run, waiting for one and following it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct
from starlette.responses import Response

from jobq_core.errors import JobNotFoundError
from jobq_core.logs import log_storage
from jobq_core.states import JobState, is_finished
from jobq_core.storage import FINISHED_TOPIC, PROGRESS_TOPIC, Action, JobStatus, Subscription
from jobq_server.web.actions import ACTIONS, act
from jobq_server.web.adding import add_job, options_of
from jobq_server.web.api.declaring import ApiRoutes
from jobq_server.web.api.types import (
    AddedView,
    ChangeView,
    JobDetail,
    JobPage,
    JobPageQuery,
    LogsQuery,
    LogsView,
    MoveBody,
    NewJobBody,
    PriorityBody,
    ReasonView,
    RescheduleBody,
    StreamedEvent,
    WaitQuery,
)
from jobq_server.web.api.views import (
    change_view,
    job_detail,
    job_event,
    job_view,
    logs_view,
    to_filter,
    to_place,
)
from jobq_server.web.call import Call
from jobq_server.web.filters import to_utc
from jobq_server.web.pages.job import get_job, read_reason
from jobq_server.web.pages.jobs import check_may_search
from jobq_server.web.security.identity import Role
from jobq_server.web.streams import event

routes = ApiRoutes("jobs")

LOOK_SECONDS: Final = 1.0
"""After this time without a notification, a job that is waited for is looked at all the same."""
SHORTEST_SECONDS: Final = 0.01
LONGEST_SECONDS: Final = 0.5
"""The pause after a read of a job: twice as long each time while notifications concern other jobs."""
OVER: Final = frozenset({JobState.DISABLED})
"""States that end a wait, beside the final ones: nothing happens to such a job by itself."""


@routes.get("/jobs", access=Role.VIEW, query=JobPageQuery, answer=JobPage, name="list_jobs")
async def find(call: Call, query: JobPageQuery) -> JobPage:
    """Find jobs, newest first.

    A condition on errors, arguments, a worker or a parent looks at 5,000 jobs per page, which may be empty and yet have
    a next.
    """
    wanted = to_filter(query)
    check_may_search(call, wanted)
    page = await call.storage.find(wanted, after=query.after, limit=query.limit)
    hidden = call.web.payloads.hides(call.identity)
    return JobPage([job_view(job, hidden=hidden) for job in page.jobs], page.cursor)


@routes.post(
    "/jobs",
    access=Role.OPERATE,
    body=NewJobBody,
    answer=AddedView,
    status=201,
    also={200: AddedView},
    errors=(409,),
    name="add_job",
)
async def add(call: Call, body: NewJobBody) -> Any:
    """Add a job.

    Where the application knows the declaration of the kind, the arguments are checked against it, and options that are
    not given are as declared. Answers 200 and the other job's id if an unfinished job has the unique key.
    """
    fields = {name: getattr(body, name) for name in body.__struct_fields__ if name not in ("kind", "arguments")}
    added = await add_job(call, body.kind, msgspec.json.encode(body.arguments), options_of(fields))
    view = AddedView(added.id, added.created)
    return view if added.created else Response(msgspec.json.encode(view), 200, media_type="application/json")


@routes.get("/jobs/{id}", access=Role.VIEW, answer=JobDetail, errors=(404,), name="get_job")
async def get(call: Call) -> JobDetail:
    """Return one job, with its payloads and its failed attempts."""
    return job_detail(call, await get_job(call))


@routes.get("/jobs/{id}/why", access=Role.VIEW, answer=ReasonView, errors=(404,), name="why_job")
async def why(call: Call) -> ReasonView:
    """Say why a job does not run, or how it ended, in one sentence."""
    record = await get_job(call)
    reason, _ = await read_reason(call, record)
    return ReasonView(reason.code, reason.sentence, reason.at)


@routes.get("/jobs/{id}/logs", access=Role.VIEW, query=LogsQuery, answer=LogsView, errors=(404,), name="job_logs")
async def logs(call: Call, query: LogsQuery) -> LogsView:
    """Return what the handler of a job logged: the last lines.

    Workers keep logs that run with `--keep-logs`. The lines of a run that has ended are there.
    """
    job_id = call.path_id()
    await _status(call, job_id)
    parts = await log_storage(call.storage).read_logs(
        job_id,
        attempt=query.attempt,
        after=to_place(query.after),
        before=to_place(query.before),
        limit=query.limit,
    )
    return logs_view(parts, hidden=call.web.payloads.hides(call.identity))


def _declare_action(action: Action, body: type[Struct] | None = None, field: str = "") -> None:
    info = ACTIONS[action]

    async def change(call: Call, given: Any = None) -> ChangeView:
        value = None if given is None else getattr(given, field)
        text = None if value is None else str(value)
        if isinstance(value, datetime):
            text = str(to_utc(value, "run_at"))
        (changed,) = await act(call.storage, info, [call.path_id()], text, call.actor)
        if changed.before is None:
            raise JobNotFoundError(f"no job {changed.id}: it was deleted, or removed after its retention")
        return change_view(changed)

    change.__doc__ = f"{info.label} one job.\n\nA job in a state that the action does not change stays as it is."
    routes.post(
        f"/jobs/{{id}}/{action.value}",
        access=info.role,
        body=body,
        answer=ChangeView,
        errors=(404,),
        name=f"{action.value.replace('-', '_')}_job",
    )(change)


for _action in (Action.ABORT, Action.RETRY, Action.DISABLE, Action.ENABLE, Action.DELETE, Action.RUN_NOW):
    _declare_action(_action)
_declare_action(Action.RESCHEDULE, RescheduleBody, "run_at")
_declare_action(Action.MOVE, MoveBody, "queue")
_declare_action(Action.PRIORITY, PriorityBody, "priority")


@routes.get(
    "/jobs/{id}/wait", access=Role.VIEW, query=WaitQuery, answer=JobDetail, errors=(404,), name="wait_job", seconds=70.0
)
async def wait(call: Call, query: WaitQuery) -> JobDetail:
    """Wait until a job is over, and return it; after the timeout, return it as it is: see `finished`."""
    job_id = call.path_id()
    with call.web.streams.counted(call.client) as must_end:
        async with call.storage.subscribe([FINISHED_TOPIC]) as subscription:
            ends = asyncio.get_running_loop().time() + query.timeout
            pause = SHORTEST_SECONDS
            while not _is_over(await _status(call, job_id)):
                left = ends - asyncio.get_running_loop().time()
                if left <= 0 or must_end() or await call.request.is_disconnected():
                    break
                pause = await _until_next_look(subscription, pause, min(left, LOOK_SECONDS))
    return job_detail(call, await get_job(call))


@routes.get(
    "/jobs/{id}/events",
    access=Role.VIEW,
    answer=StreamedEvent,
    errors=(404, 503),
    media_type="text/event-stream",
    name="follow_job",
)
async def events(call: Call) -> Response:
    """Follow a job by server-sent events: `job` at each change of its state or progress, and `end` when it is over."""
    job_id = call.path_id()
    await _status(call, job_id)
    return call.web.streams.respond(call.client, _events(call, job_id))


async def _events(call: Call, job_id: UUID) -> AsyncGenerator[bytes, None]:
    hidden = call.web.payloads.hides(call.identity)
    last, pause = b"", SHORTEST_SECONDS
    async with call.storage.subscribe([FINISHED_TOPIC, PROGRESS_TOPIC]) as subscription:
        while True:
            (status,) = await call.storage.get_status([job_id])
            if status is None:
                yield event("null", name="deleted")
                return
            data = msgspec.json.encode(job_event(status, hidden=hidden))
            if data != last:
                last, pause = data, SHORTEST_SECONDS
                yield event(data, name="end" if _is_over(status) else "job")
            if _is_over(status):
                return
            pause = await _until_next_look(subscription, pause, LOOK_SECONDS)


async def _until_next_look(subscription: Subscription, pause: float, timeout: float) -> float:
    """Wait for a notification after the pause, both together for `timeout` seconds at most; return the next pause.

    On a busy storage there is always a notification: without a pause, each stream would read without end.
    """
    await asyncio.sleep(min(pause, timeout))
    notified = await subscription.wait(max(timeout - pause, 0.0))
    return min(2 * pause, LONGEST_SECONDS) if notified else SHORTEST_SECONDS


async def _status(call: Call, job_id: UUID) -> JobStatus:
    (status,) = await call.storage.get_status([job_id])
    if status is None:
        raise JobNotFoundError(f"no job {job_id}: it was deleted, or removed after its retention")
    return status


def _is_over(status: JobStatus) -> bool:
    return is_finished(status.state) or status.state in OVER
