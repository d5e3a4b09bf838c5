"""`jobq failed`: failed jobs, grouped by their error."""

from __future__ import annotations

import click

from jobq_client.commands.output import count, moment
from jobq_client.commands.running import ExitCode, Operator, operator_command
from jobq_core.failures import failures


@operator_command("failed")
@click.option("--queue", metavar="NAME", help="Show only this queue.  [default: all]")
async def failed(operator: Operator, queue: str | None) -> ExitCode:
    """Group the newest 1,000 failed jobs by kind and error, the largest group first.

    Messages that differ only in numbers, ids or quoted text form one group. List the jobs of a group with
    `jobq jobs --state failed --kind KIND --error-type TYPE`, and put them back with `jobq retry` and the same options.
    """
    groups = await failures(operator.storage, queue=queue)
    if operator.output.as_json:
        operator.output.json(groups)
        return ExitCode.OK
    operator.output.table(
        ("jobs", "kind", "queue", "error", "message", "first", "last", "newest job"),
        [
            (
                count(group.jobs),
                group.kind,
                group.queue,
                group.type,
                group.message[:80],
                moment(group.first),
                moment(group.last),
                group.newest_job,
            )
            for group in groups
        ],
        right=("jobs",),
    )
    return ExitCode.OK
