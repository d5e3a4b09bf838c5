"""Queues: what waits, runs and ended in them, pausing them, and how long they keep finished jobs."""

from __future__ import annotations

from jobq_core.activity import read_activity
from jobq_core.storage import Retention
from jobq_server.web.actions import set_paused, set_retention
from jobq_server.web.activity import SPANS, read_overview, since_of
from jobq_server.web.api.declaring import ApiRoutes
from jobq_server.web.api.types import (
    DepthView,
    PausedView,
    QueueActivity,
    QueueQuery,
    QueueView,
    RetentionBody,
    SpanQuery,
    StatisticsView,
)
from jobq_server.web.api.views import point_view, queue_view
from jobq_server.web.call import Call
from jobq_server.web.security.identity import Role

routes = ApiRoutes("queues")


@routes.get("/queues", access=Role.VIEW, answer=list[QueueView], name="list_queues")
async def queues(call: Call) -> list[QueueView]:
    """Return all queues that have jobs, had some in the last hour, have options, or have a live worker."""
    return [queue_view(row) for row in (await read_overview(call.storage)).queues]


@routes.post("/queues/{name:path}/pause", access=Role.OPERATE, answer=PausedView, errors=(404,), name="pause_queue")
async def pause(call: Call) -> PausedView:
    """Let workers claim no job of a queue until it is resumed."""
    await set_paused(call.storage, call.path("name"), call.actor, paused=True)
    return PausedView(call.path("name"), True)


@routes.post("/queues/{name:path}/resume", access=Role.OPERATE, answer=PausedView, errors=(404,), name="resume_queue")
async def resume(call: Call) -> PausedView:
    """Let workers claim jobs of a paused queue again."""
    await set_paused(call.storage, call.path("name"), call.actor, paused=False)
    return PausedView(call.path("name"), False)


@routes.post(
    "/queues/{name:path}/retention",
    access=Role.ADMIN,
    body=RetentionBody,
    answer=RetentionBody,
    name="set_queue_retention",
)
async def retention(call: Call, body: RetentionBody) -> RetentionBody:
    """Set how long a queue keeps its finished jobs."""
    kept = Retention(completed=body.completed, failed=body.failed, aborted=body.aborted)
    await set_retention(call.storage, call.path("name"), kept, call.actor)
    return body


@routes.get("/depths", access=Role.VIEW, query=QueueQuery, answer=list[DepthView], name="list_depths")
async def depths(call: Call, query: QueueQuery) -> list[DepthView]:
    """Return the number of jobs by queue and state, without those that are 0.

    The cost does not grow with the jobs: of a state with more than 5,000, the number is that of the last sample.
    """
    found = await call.storage.depths(query.queue)
    return [DepthView(one.queue, one.state, one.jobs, one.oldest, one.at) for one in found]


@routes.get("/activity", access=Role.VIEW, query=SpanQuery, answer=list[QueueActivity], name="list_activity")
async def activity(call: Call, query: SpanQuery) -> list[QueueActivity]:
    """Return what went on in each queue, by step of time: jobs in and out, depths and percentiles."""
    span = SPANS[query.span]
    found = await read_activity(call.storage, query.queue, span=span.seconds, step=span.step)
    return [QueueActivity(queue, [point_view(point) for point in points]) for queue, points in found.items()]


@routes.get("/statistics", access=Role.VIEW, query=SpanQuery, answer=list[StatisticsView], name="list_statistics")
async def statistics(call: Call, query: SpanQuery) -> list[StatisticsView]:
    """Return the jobs that ended by step, queue, kind and state, with histograms that can be added up."""
    span = SPANS[query.span]
    now = await call.storage.now()
    found = await call.storage.statistics(query.queue, since=since_of(span, now), until=now, step=span.step)
    return [
        StatisticsView(
            at=one.minute,
            queue=one.queue,
            kind=one.kind,
            state=one.state,
            jobs=one.jobs,
            waiting_seconds=one.waiting_seconds,
            running_seconds=one.running_seconds,
            waiting={str(bucket): count for bucket, count in one.waiting.items()},
            running={str(bucket): count for bucket, count in one.running.items()},
        )
        for one in found
    ]
