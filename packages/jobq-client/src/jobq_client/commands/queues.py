"""`jobq queues`, `jobq pause` and `jobq resume`: the options of queues."""

from __future__ import annotations

import click

from jobq_client.commands.output import clean, count, duration, moment
from jobq_client.commands.running import ExitCode, Operator, operator_command
from jobq_core.errors import ConfigurationError
from jobq_core.job import check_name
from jobq_core.operating import known_queues
from jobq_core.storage import QueueOptions, QueueRecord, Retention


@operator_command("queues")
async def queues(operator: Operator) -> ExitCode:
    """List the queues: their jobs, whether they are paused, and how long they keep finished jobs."""
    depths = await operator.storage.depths()
    records = {record.name: record for record in await operator.storage.queues()}
    names = sorted({*records, *(depth.queue for depth in depths)})
    totals = {name: sum(depth.jobs for depth in depths if depth.queue == name) for name in names}
    if operator.output.as_json:
        operator.output.json(
            [
                {
                    "name": name,
                    "jobs": totals[name],
                    "options": records.get(name),
                    "retention": _retention(records, name),
                }
                for name in names
            ]
        )
        return ExitCode.OK
    rows = []
    for name in names:
        record = records.get(name)
        kept = _retention(records, name)
        by = f" by {record.paused_by}" if record is not None and record.paused_by else ""
        paused = f"since {moment(record.paused_at)}{by}" if record is not None and record.paused_at else None
        rows.append((name, count(totals[name]), paused, *map(_kept, (kept.completed, kept.failed, kept.aborted))))
    operator.output.table(("queue", "jobs", "paused", "completed", "failed", "aborted"), rows, right=("jobs",))
    return ExitCode.OK


def _retention(records: dict[str, QueueRecord], name: str) -> Retention:
    record = records.get(name)
    return Retention() if record is None or record.retention is None else record.retention


def _kept(seconds: float | None) -> str:
    return "kept forever" if seconds is None else f"kept {duration(seconds)}" if seconds else "not kept"


@operator_command("pause", acts=True)
@click.argument("queue")
async def pause(operator: Operator, queue: str) -> ExitCode:
    """Keep workers from claiming jobs of a queue until it is resumed. Running jobs continue, and jobs can be added."""
    await _set_paused(operator, queue, paused=True)
    return ExitCode.OK


@operator_command("resume", acts=True)
@click.argument("queue")
async def resume(operator: Operator, queue: str) -> ExitCode:
    """Let workers claim jobs of a paused queue again."""
    await _set_paused(operator, queue, paused=False)
    return ExitCode.OK


async def _set_paused(operator: Operator, queue: str, *, paused: bool) -> None:
    name = check_name(queue, "queue")
    known = await known_queues(operator.storage)
    if name not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise ConfigurationError(f"there is no queue {clean(name)!r}; known queues: {clean(listed)}")
    await operator.storage.set_queue(name, QueueOptions(paused=paused, actor=operator.actor))
    await operator.record("pause" if paused else "resume", name)
    click.echo(f"queue {clean(name)} {'paused' if paused else 'resumed'}", err=operator.output.as_json)
    if operator.output.as_json:
        operator.output.json({"queue": name, "paused": paused})
