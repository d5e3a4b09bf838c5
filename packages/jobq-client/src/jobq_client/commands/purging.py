"""`jobq purge`: delete finished jobs now."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import click

from jobq_client.commands.actions import change_all
from jobq_client.commands.running import ExitCode, Operator, operator_command
from jobq_client.commands.selecting import MomentType
from jobq_core.job import check_name
from jobq_core.states import FINISHED, JobState
from jobq_core.storage import Action, JobFilter

_FINISHED: Final = sorted(state.value for state in FINISHED)


@operator_command("purge", acts=True)
@click.argument("queue")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(_FINISHED),
    help="Only jobs in this state; may be repeated.  [default: all finished jobs]",
)
@click.option("--until", metavar="TIME", type=MomentType(), help="Only jobs added before then: 7d, 2026-12-01T08:00.")
@click.option("--dry-run", is_flag=True, help="Print the number of jobs; delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
async def purge(
    operator: Operator, queue: str, states: tuple[str, ...], until: datetime | None, dry_run: bool, yes: bool
) -> ExitCode:
    """Delete the finished jobs of QUEUE now, before their retention ends. Unfinished jobs are kept."""
    chosen = frozenset(map(JobState, states or _FINISHED))
    finished = JobFilter(queue=check_name(queue, "queue"), states=chosen, until=until)
    return await change_all(operator, Action.DELETE, None, finished, yes=yes, dry_run=dry_run)
