"""One job: its state and why, arguments and result, the timeline of its attempts, and what was done to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs
import msgspec
from msgspec.structs import replace

from jobq_core.errors import JobNotFoundError
from jobq_core.family import children_of
from jobq_core.job_audit import audit_of, operation_of
from jobq_core.records import ErrorRecord, JobRecord, Progress
from jobq_core.states import FINISHED, JobState
from jobq_core.why import Facts, Reason, explain
from jobq_core.why.facts import AHEAD
from jobq_server.web.actions import possible_actions
from jobq_server.web.call import Call
from jobq_server.web.formatting import seconds_between
from jobq_server.web.logs import read_job_logs
from jobq_server.web.rendering import View
from jobq_server.web.routing import Routes
from jobq_server.web.security.identity import Role
from jobq_server.web.security.payloads import pretty

routes = Routes()


@routes.get("/jobs/{id}", access=Role.VIEW)
async def job(call: Call) -> View:
    """Show one job."""
    record = await get_job(call)
    reason, facts = await read_reason(call, record)
    workers = {worker.info.id: worker.info for worker in facts.workers}
    hidden = call.web.payloads.hides(call.identity)
    return View(
        "job.html",
        {
            "actions": [action for action in possible_actions(record) if call.may(action.role)],
            "arguments": "" if hidden else pretty(call.web.payloads.arguments(record)),
            "audit": facts.audit,
            "children": await children_of(call.storage, record),
            "details": "" if hidden or record.progress.details is None else _json(record.progress.details),
            "operation_of": operation_of,
            "headers": "" if hidden or not record.meta else pretty(record.shown_headers),
            "hidden": hidden,
            "job": record,
            "logs": await read_job_logs(call.storage, record.id),
            "reason": reason,
            "result": "" if hidden or record.result_json is None else pretty(record.result_json),
            "storage_now": facts.now,
            "timeline": make_timeline(record, facts.now),
            "worker": None if record.worker is None else workers.get(record.worker),
            "workers": workers,
            "FINISHED": FINISHED,
        },
    )


async def get_job(call: Call) -> JobRecord:
    """Return the job of the path. Raises JobNotFoundError."""
    job_id = call.path_id()
    (record,) = await call.storage.get([job_id])
    if record is None:
        raise JobNotFoundError(f"no job {job_id}: it was deleted, or removed after its retention")
    return record


async def read_reason(call: Call, record: JobRecord) -> tuple[Reason, Facts]:
    """Return why a job does not run, or how it ended, and the facts that say so."""
    storage = call.storage
    is_pending = record.state is JobState.PENDING
    facts = Facts(
        now=await storage.now(),
        workers=await storage.workers(),
        queues=await storage.queues(),
        ahead=await storage.jobs_ahead(record.id, limit=AHEAD) if is_pending else None,
        audit=await audit_of(storage, record),
    )
    hidden = call.web.payloads.hides(call.identity)
    return explain(without_messages(record) if hidden else record, facts), facts


def without_messages(record: JobRecord) -> JobRecord:
    """Return a job without the messages of its error and its progress, which the reason of its state would repeat."""
    error = None if record.error is None else replace(record.error, message="")
    return replace(record, error=error, progress=Progress(percent=record.progress.percent))


@attrs.frozen(kw_only=True)
class Moment:
    """A point of a job's timeline.

    seconds: how long what began here took. error: why the run ended.
    """

    at: datetime
    title: str
    state: str
    note: str = ""
    seconds: float | None = None
    error: ErrorRecord | None = None
    worker: Any = None


def make_timeline(record: JobRecord, now: datetime) -> list[Moment]:
    """Return what happened to a job, oldest first, and what comes next."""
    moments = [Moment(at=record.created_at, title="Added", state="pending", note=f"to queue {record.queue}")]
    moments += _attempts(record)
    last = _last_run(record, now)
    moments += last
    if record.state not in FINISHED and record.run_at is not None and record.state is not JobState.PENDING:
        moments.append(Moment(at=record.run_at, title="Due", state="scheduled", note="becomes pending"))
    return sorted(moments, key=lambda moment: moment.at)


def _attempts(record: JobRecord) -> Sequence[Moment]:
    return [
        Moment(
            at=attempt.started_at,
            title=f"Attempt {attempt.number}",
            state="failed",
            note="ended with an error",
            seconds=seconds_between(attempt.started_at, attempt.finished_at),
            error=attempt.error,
            worker=attempt.worker,
        )
        for attempt in record.attempts
    ]


def _last_run(record: JobRecord, now: datetime) -> list[Moment]:
    """Return the present run, and the end of the job. A run that ended with an error is among the attempts."""
    found: list[Moment] = []
    if record.state is JobState.PROCESSING and record.started_at is not None:
        found.append(
            Moment(
                at=record.started_at,
                title=f"Attempt {record.attempt}",
                state="processing",
                note="runs",
                seconds=seconds_between(record.started_at, now),
                worker=record.worker,
            )
        )
    if record.state is JobState.COMPLETED and record.started_at is not None:
        found.append(
            Moment(
                at=record.started_at,
                title=f"Attempt {record.attempt}",
                state="completed",
                note="completed",
                seconds=seconds_between(record.started_at, record.finished_at),
                worker=record.worker,
            )
        )
    if record.finished_at is not None:
        found.append(
            Moment(at=record.finished_at, title=record.state.value.capitalize(), state=record.state.value, error=None)
        )
    return found


def _json(value: Any) -> str:
    return pretty(msgspec.json.encode(value))
