"""`jobq operations`: bulk operations, those that run and those that ended."""

from __future__ import annotations

from uuid import UUID

import click

from jobq_client.commands.output import clean, count, moment
from jobq_client.commands.progress import show_progress
from jobq_client.commands.running import ExitCode, ListingGroup, Operator, operator_command
from jobq_client.commands.selecting import IdType, describe
from jobq_core.operations import get, work_to_end
from jobq_core.storage import Operation, OperationState


@click.group("operations", cls=ListingGroup)
def operations() -> None:
    """List bulk operations, resume one, or cancel one."""


@operator_command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, metavar="N", help="At most N.")
async def list_(operator: Operator, limit: int) -> ExitCode:
    """List bulk operations, newest first."""
    found = await operator.storage.operations(limit=limit)
    if operator.output.as_json:
        operator.output.json(found)
        return ExitCode.OK
    operator.output.table(
        ("id", "action", "jobs", "state", "done", "matched", "changed", "refused", "by", "started"),
        [
            (
                each.id,
                each.action if each.value is None else f"{each.action} {each.value}",
                describe(each.filter),
                each.state,
                count(each.done),
                count(each.matched),
                count(each.changed),
                count(each.refused),
                each.actor,
                moment(each.created_at),
            )
            for each in found
        ],
        right=("done", "matched", "changed", "refused"),
    )
    return ExitCode.OK


@operator_command("resume", acts=True)
@click.argument("operation_id", metavar="ID", type=IdType())
async def resume(operator: Operator, operation_id: UUID) -> ExitCode:
    """Continue an operation that was interrupted. A worker does so by itself after some seconds."""
    operation = await get(operator.storage, operation_id)
    with show_progress(operation.matched) as progress:
        operation = await work_to_end(operator.storage, operation, on_progress=progress)
    _print(operator, operation)
    return ExitCode.OK if operation.state is OperationState.DONE else ExitCode.UNMET


@operator_command("cancel", acts=True)
@click.argument("operation_id", metavar="ID", type=IdType())
async def cancel(operator: Operator, operation_id: UUID) -> ExitCode:
    """Cancel the rest of an operation, after the slice that is in progress. What it has done stays done."""
    await get(operator.storage, operation_id)
    cancelled = await operator.storage.cancel_operation(operation_id)
    if cancelled:
        await operator.record("cancel", operation_id)
    _print(operator, await get(operator.storage, operation_id))
    return ExitCode.OK if cancelled else ExitCode.UNMET


def _print(operator: Operator, operation: Operation) -> None:
    if operator.output.as_json:
        operator.output.json(operation)
    else:
        changed = f"{count(operation.changed)} of {count(operation.done)} jobs changed"
        click.echo(f"{operation.action}: {operation.state}, {changed}")
        if operation.error:
            click.echo(clean(operation.error), err=True)


for _command in (list_, resume, cancel):
    operations.add_command(_command)
