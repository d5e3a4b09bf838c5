"""`jobq logs`: what the handler of a job logged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import click
import msgspec

from jobq_client.commands.output import clean, clean_line
from jobq_client.commands.running import ExitCode, Operator, operator_command
from jobq_client.commands.selecting import IdType
from jobq_client.errors import not_found
from jobq_client.results import is_over
from jobq_core.job import MAX_ATTEMPTS
from jobq_core.logs import LoggedLine, read_parts, to_lines
from jobq_core.storage import LogPlace

FOLLOW_SECONDS: Final = 1.0
"""Interval between two reads of --follow."""


@operator_command("logs")
@click.argument("job_id", metavar="ID", type=IdType())
@click.option("--attempt", metavar="N", type=click.IntRange(1, MAX_ATTEMPTS), help="Show only this attempt.")
@click.option("--follow", is_flag=True, help="Continue until the job has ended; with --json, one line per record.")
async def logs(operator: Operator, job_id: UUID, attempt: int | None, follow: bool) -> ExitCode:
    """Show what the handler of a job logged, where its worker runs with --keep-logs."""
    printer = _Printer(operator)
    after: LogPlace | None = None
    while True:
        # Read before the lines: those of a run whose end is seen are there.
        (status,) = await operator.storage.get_status([job_id])
        if status is None and after is None:
            raise not_found(job_id)
        parts = await read_parts(operator.storage, job_id, attempt=attempt, after=after)
        after = parts[-1].place if parts else after
        printer.show(to_lines(parts), follow=follow)
        if not follow or status is None or is_over(status):
            break
        await asyncio.sleep(FOLLOW_SECONDS)
    if after is None:
        click.echo(
            "no logs are kept with this job; its worker keeps them with --keep-logs, except for batch handlers",
            err=True,
        )
    return ExitCode.OK


class _Printer:
    """Prints lines, under a heading for each attempt."""

    def __init__(self, operator: Operator) -> None:
        self._output = operator.output
        self._lease = -1

    def show(self, lines: Sequence[LoggedLine], *, follow: bool) -> None:
        """Print lines; for programs as one JSON document, or as one a line where more may follow."""
        if self._output.as_json and not follow:
            self._output.json(lines)
            return
        for line in lines:
            if self._output.as_json:
                click.echo(msgspec.json.encode(line).decode())
                continue
            if line.lease != self._lease:
                self._lease = line.lease
                click.echo(f"Attempt {line.attempt} (times in UTC)")
            at = f"{line.at:%Y-%m-%d %H:%M:%S.%f}"[:-3]
            click.echo(f"{at} {clean_line(line.level)} {clean_line(line.logger)}: {clean(line.message)}")
