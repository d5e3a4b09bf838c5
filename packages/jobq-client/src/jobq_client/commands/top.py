"""`jobq top`: the overview, live, in a terminal."""

from __future__ import annotations

import asyncio
import time

import click

from jobq_client.commands.output import Output, count, duration
from jobq_client.commands.running import ExitCode, Operator, operator_command
from jobq_client.commands.status import print_status
from jobq_core.doctor import examine
from jobq_core.states import JobState
from jobq_core.storage import JobFilter

LISTED = 10
"""The number of running jobs, and of findings, that are shown."""


@operator_command("top", shows_json=False)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.2),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two updates.",
)
@click.option("--once", is_flag=True, help="Print once, and exit.")
async def top(operator: Operator, interval: float, once: bool) -> ExitCode:
    """Show the queues, the workers, the longest running jobs and the problems, updated live until Ctrl-C."""
    while True:
        screen = Output()
        if not once:
            click.clear()
        click.echo(f"jobq top  {time.strftime('%H:%M:%S')}  {operator.storage.url}\n")
        await print_status(operator, None)
        await _print_workers(operator, screen)
        await _print_running(operator, screen)
        for finding in (await examine(operator.storage))[:LISTED]:
            screen.line(f"{finding.severity.value}: {finding.message}")
        if once:
            return ExitCode.OK
        await asyncio.sleep(interval)


async def _print_workers(operator: Operator, screen: Output) -> None:
    now = await operator.storage.now()
    records = await operator.storage.workers()
    screen.line()
    columns = ("worker", "heartbeat", "busy", "slots", "completed", "failed", "loop lag")
    screen.table(
        columns,
        [
            (
                record.info.name,
                f"{duration(now - record.beat_at)} ago" if record.is_alive(now) else "LOST",
                record.stats.running,
                record.slots,
                count(record.stats.completed),
                count(record.stats.failed),
                duration(record.stats.loop_lag),
            )
            for record in records
        ],
        right=columns[1:],
    )


async def _print_running(operator: Operator, screen: Output) -> None:
    now = await operator.storage.now()
    page = await operator.storage.find(JobFilter(states=[JobState.PROCESSING]), limit=1000)
    longest = sorted((job for job in page.jobs if job.started_at), key=lambda job: job.started_at or now)
    screen.line()
    screen.table(
        ("running job", "kind", "queue", "for", "attempt", "progress"),
        [
            (
                job.id,
                job.kind,
                job.queue,
                duration(now - (job.started_at or now)),
                job.attempt,
                f"{job.progress.percent:g} % {job.progress.message or ''}".strip(),
            )
            for job in longest[:LISTED]
        ],
        right=("for", "attempt"),
    )
    screen.line()
