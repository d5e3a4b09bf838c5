"""`jobq audit`: what operators did."""

from __future__ import annotations

from typing import Any

import click

from jobq_client.commands.output import moment
from jobq_client.commands.running import ExitCode, Operator, operator_command
from jobq_client.commands.selecting import IdType


@operator_command("audit")
@click.option(
    "--target", metavar="NAME", help="Show the entries of this job, queue, worker or operation.  [default: all]"
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, metavar="N", help="At most N entries."
)
@click.option(
    "--after", type=IdType(), metavar="ID", help="Continue after this entry, the last one of the previous page."
)
async def audit(operator: Operator, target: str | None, limit: int, after: Any) -> ExitCode:
    """List the changes that operators made in the last 90 days, newest first."""
    entries = await operator.storage.audit(target=target, after=after, limit=limit)
    if operator.output.as_json:
        operator.output.json(entries)
        return ExitCode.OK
    operator.output.table(
        ("time", "actor", "action", "target", "details"),
        [(moment(each.at), each.actor, each.action, each.target, _brief(each.details)) for each in entries],
    )
    if len(entries) == limit:
        click.echo(f"There may be more: add --after {entries[-1].id}", err=True)
    return ExitCode.OK


def _brief(details: Any) -> str | None:
    if isinstance(details, dict):
        return " ".join(f"{name}={value}" for name, value in details.items())
    return None if details is None else str(details)
