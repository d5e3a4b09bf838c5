"""`jobq doctor`: what is wrong, and the command that cures it."""

from __future__ import annotations

import click

from jobq_client.commands.output import clean
from jobq_client.commands.running import ExitCode, Operator, operator_command
from jobq_core.doctor import examine
from jobq_core.storage import Severity


@operator_command("doctor")
async def doctor(operator: Operator) -> ExitCode:
    """Examine the queues, the workers and the database, and print each problem with a remedy.

    Changes nothing. Exits with 4 if there is an error, with 0 if there are warnings at most.
    """
    found = await examine(operator.storage)
    if operator.output.as_json:
        operator.output.json(found)
    elif not found:
        click.echo("No problems found.")
    else:
        for finding in found:
            click.echo(f"{finding.severity.value:<7}  {finding.code}: {clean(finding.message)}")
            click.echo(f"         → {clean(finding.remedy)}")
    return ExitCode.UNMET if any(finding.severity is Severity.ERROR for finding in found) else ExitCode.OK
