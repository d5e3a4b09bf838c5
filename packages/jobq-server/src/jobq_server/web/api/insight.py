"""Failures by error, the audit, what is wrong, and who asks."""

from __future__ import annotations

from jobq_core.doctor import examine
from jobq_core.failures import failures as read_failures
from jobq_server.web.api.declaring import ApiRoutes
from jobq_server.web.api.types import AuditQuery, AuditView, FailureView, FindingView, Me, QueueQuery
from jobq_server.web.call import Call
from jobq_server.web.security.identity import Role

routes = ApiRoutes("insight")


@routes.get("/failures", access=Role.VIEW, query=QueueQuery, answer=list[FailureView], name="list_failures")
async def failures(call: Call, query: QueueQuery) -> list[FailureView]:
    """Return the newest 1,000 failed jobs grouped by their error, the largest group first."""
    hidden = call.web.payloads.hides(call.identity)
    found = await read_failures(call.storage, queue=query.queue)
    return [
        FailureView(
            fingerprint=group.fingerprint,
            kind=group.kind,
            queue=group.queue,
            type=group.type,
            message=None if hidden else group.message,
            jobs=group.jobs,
            first=group.first,
            last=group.last,
            newest_job=group.newest_job,
        )
        for group in found
    ]


@routes.get("/audit", access=Role.VIEW, query=AuditQuery, answer=list[AuditView], name="list_audit")
async def audit(call: Call, query: AuditQuery) -> list[AuditView]:
    """Return what operators did, newest first."""
    found = await call.storage.audit(target=query.target, after=query.after, limit=query.limit)
    return [AuditView(one.id, one.at, one.actor, one.action, one.target, one.details) for one in found]


@routes.get("/doctor", access=Role.VIEW, answer=list[FindingView], name="examine")
async def doctor(call: Call) -> list[FindingView]:
    """Return what is wrong with the queues, the workers and the database, errors first."""
    found = await examine(call.storage)
    return [FindingView(one.code, one.severity, one.subject, one.message, one.remedy) for one in found]


@routes.get("/me", access=Role.VIEW, answer=Me, name="get_me")
async def me(call: Call) -> Me:
    """Return who makes the request, and their role."""
    return Me(call.identity.name, call.identity.role)
