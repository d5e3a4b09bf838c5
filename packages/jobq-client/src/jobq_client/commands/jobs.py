"""`jobq jobs`: list jobs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import click

from jobq_client.commands.output import duration, moment
from jobq_client.commands.running import ExitCode, Operator, operator_command
from jobq_client.commands.selecting import IdType, filter_of, filter_options
from jobq_core.records import JobSummary

MAX_LISTED: Final = 1000

COLUMNS: Final[dict[str, Callable[[JobSummary, datetime], object]]] = {
    "id": lambda job, now: job.id,
    "kind": lambda job, now: job.kind,
    "queue": lambda job, now: job.queue,
    "state": lambda job, now: job.state.value,
    "priority": lambda job, now: job.priority,
    "attempt": lambda job, now: f"{job.attempt}/{job.max_attempts}",
    "added": lambda job, now: moment(job.created_at),
    "age": lambda job, now: duration(now - job.created_at),
    "run_at": lambda job, now: moment(job.run_at),
    "since": lambda job, now: moment(job.since),
    "started": lambda job, now: moment(job.started_at),
    "finished": lambda job, now: moment(job.finished_at),
    "deadline": lambda job, now: moment(job.deadline),
    "reason": lambda job, now: job.reason,
    "run": lambda job, now: job.run_id,
    "tags": lambda job, now: " ".join(job.tags) or None,
    "unique": lambda job, now: job.unique_key,
    "worker": lambda job, now: job.worker,
    "progress": lambda job, now: f"{job.progress.percent:g} %" if job.progress.percent else job.progress.message,
    "error": lambda job, now: None if job.error is None else f"{job.error.type}: {job.error.message}"[:100],
}
"""The columns that `--columns` knows, and what they show of a job."""

SHOWN: Final = "id,kind,queue,state,attempt,age,error"


@operator_command("jobs")
@filter_options
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LISTED),
    default=50,
    show_default=True,
    metavar="N",
    help="Show at most N jobs.",
)
@click.option(
    "--after", type=IdType(), metavar="ID", help="Continue after this job, the last one of the previous page."
)
@click.option(
    "--columns",
    default=SHOWN,
    show_default=True,
    metavar="NAMES",
    help=f"Columns to show, out of {', '.join(COLUMNS)}.",
)
async def jobs(operator: Operator, limit: int, after: Any, columns: str, **filters: Any) -> ExitCode:
    """List jobs, newest first: all, or those that match every option.

    Searches by error, argument, worker or parent read 5,000 jobs at a time; the last line says how to continue.
    """
    names = [name.strip() for name in columns.split(",")]
    if unknown := [name for name in names if name not in COLUMNS]:
        raise click.BadParameter(
            f"unknown column {unknown[0]!r}; expected some of {', '.join(COLUMNS)}", param_hint="--columns"
        )
    page = await operator.storage.find(filter_of(filters), after=after, limit=limit)
    if operator.output.as_json:
        operator.output.json({"jobs": page.jobs, "next": page.cursor})
        return ExitCode.OK
    now = await operator.storage.now()
    operator.output.table(
        names, [[COLUMNS[name](job, now) for name in names] for job in page.jobs], right=("priority", "age")
    )
    if page.cursor is not None:
        click.echo(f"There may be more: add --after {page.cursor}", err=True)
    return ExitCode.OK
