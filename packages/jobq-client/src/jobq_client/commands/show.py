"""`jobq show` and `jobq why`: all about one job."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import click
from msgspec import Raw

from jobq_client.commands.output import clean, duration, moment
from jobq_client.commands.running import ExitCode, Operator, operator_command
from jobq_client.commands.selecting import IdType
from jobq_client.errors import not_found
from jobq_core.family import children_of
from jobq_core.job_audit import audit_of, operation_of
from jobq_core.logs import has_logs
from jobq_core.records import JobRecord
from jobq_core.storage import AuditEntry, Page
from jobq_core.why import Reason
from jobq_core.why import why as find_reason


@operator_command("why")
@click.argument("job_id", metavar="ID", type=IdType())
async def why(operator: Operator, job_id: UUID) -> ExitCode:
    """Explain why a job does not run, or how it ended."""
    reason = await find_reason(operator.storage, job_id)
    if operator.output.as_json:
        operator.output.json(reason)
    else:
        click.echo(clean(reason.sentence))
    return ExitCode.NOT_FOUND if reason.code == "not-found" else ExitCode.OK


@operator_command("show")
@click.argument("job_id", metavar="ID", type=IdType())
@click.option("--hide-payload", is_flag=True, help="Leave out the arguments, the result and the headers.")
async def show(operator: Operator, job_id: UUID, hide_payload: bool) -> ExitCode:
    """Show everything about a job: options, timeline, the traceback of each attempt, arguments and result."""
    (record,) = await operator.storage.get([job_id])
    if record is None:
        raise not_found(job_id)
    reason = await find_reason(operator.storage, job_id)
    audit = await audit_of(operator.storage, record)
    children = await children_of(operator.storage, record)
    logged = await has_logs(operator.storage, job_id)
    names = {worker.info.id: worker.info.name for worker in await operator.storage.workers()}
    if operator.output.as_json:
        operator.output.json(_as_json(record, reason, audit, children, hide_payload) | {"has_logs": logged})
        return ExitCode.OK
    output = operator.output
    output.fields(_fields(record, reason, hide_payload, logged))
    click.echo("\nTimeline (UTC)")
    output.table(("time", "event"), [(moment(at), text) for at, text in timeline(record, audit, names)])
    if children.jobs or children.cursor is not None:
        click.echo("\nChildren")
        output.table(("id", "kind", "state"), [(job.id, job.kind, job.state.value) for job in children.jobs])
        if children.cursor is not None:
            click.echo(f"There may be more: jobq jobs --parent {record.id} --after {children.cursor}", err=True)
    for attempt in record.attempts:
        ran = duration(attempt.finished_at - attempt.started_at)
        click.echo(f"\nAttempt {attempt.number}, {ran}, {clean(attempt.error.type)}: {clean(attempt.error.message)}")
        if attempt.error.traceback:
            click.echo(clean(attempt.error.traceback).rstrip())
    return ExitCode.OK


def timeline(record: JobRecord, audit: list[AuditEntry], workers: dict[UUID, str]) -> list[tuple[datetime, str]]:
    """Return what happened to a job and when, oldest first. workers: the names of workers by id."""
    events = [(record.created_at, f"added to queue {record.queue}")]
    for attempt in record.attempts:
        by = _by(attempt.worker, workers)
        events.append((attempt.started_at, f"attempt {attempt.number} started{by}"))
        events.append((attempt.finished_at, f"attempt {attempt.number} ended with {attempt.error.type}"))
    started = {attempt.started_at for attempt in record.attempts}
    if record.started_at is not None and record.started_at not in started:
        events.append((record.started_at, f"attempt {record.attempt} started{_by(record.worker, workers)}"))
    if record.finished_at is not None:
        events.append((record.finished_at, f"{record.state.value}"))
    events += [(entry.at, f"{entry.action} by {entry.actor}{_in_bulk(entry)}") for entry in audit]
    if record.run_at is not None and not record.finished:
        events.append((record.run_at, "next start" if record.attempt else "start"))
    return sorted(events, key=lambda event: event[0])


def _in_bulk(entry: AuditEntry) -> str:
    operation = operation_of(entry)
    return "" if operation is None else f", operation {operation}"


def _by(worker: UUID | None, names: dict[UUID, str]) -> str:
    return "" if worker is None else f" on {names.get(worker, worker)}"


def _fields(record: JobRecord, reason: Reason, hide_payload: bool, logged: bool) -> dict[str, object]:
    fields: dict[str, object] = {
        "id": record.id,
        "kind": record.kind,
        "queue": record.queue,
        "state": record.state.value,
        "why": reason.sentence,
        "attempt": f"{record.attempt} of {record.max_attempts}",
        "priority": record.priority or None,
        "deadline": record.deadline and moment(record.deadline),
        "timeout": record.timeout and duration(record.timeout),
        "unique key": record.unique_key,
        "run": record.run_id,
        "added by": record.parent,
        "tags": " ".join(record.tags),
        "progress": _progress(record),
        "logs": f"jobq logs {record.id}" if logged else None,
    }
    if not hide_payload:
        fields["headers"] = record.shown_headers.decode() if record.meta else None
        fields["arguments"] = record.shown_arguments.decode(errors="replace")
        fields["result"] = None if record.result_json is None else record.result_json.decode(errors="replace")
    return fields


def _progress(record: JobRecord) -> str | None:
    progress = record.progress
    percent = f"{progress.percent:g} %" if progress.percent else ""
    return " ".join(part for part in (percent, progress.message) if part) or None


def _as_json(
    record: JobRecord, reason: Reason, audit: list[AuditEntry], children: Page, hide_payload: bool
) -> dict[str, Any]:
    hidden = {"arguments_json", "result_json", "meta_json"}
    document: dict[str, Any] = {name: getattr(record, name) for name in record.__struct_fields__ if name not in hidden}
    if not hide_payload:
        document |= {
            "arguments": Raw(record.shown_arguments),
            "result": None if record.result_json is None else Raw(record.result_json),
            "headers": Raw(record.shown_headers),
        }
    return document | {
        "parent": record.parent,
        "children": [{"id": job.id, "kind": job.kind, "state": job.state} for job in children.jobs],
        "why": reason,
        "audit": audit,
    }
