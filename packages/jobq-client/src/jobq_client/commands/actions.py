"""`jobq retry`, `abort`, `disable`, `enable`, `delete`, `run-now`, `reschedule`, `move` and `priority`: change jobs.

Each takes ids, or a filter. A filter makes a bulk operation, which is counted first, asked about, and worked off in
slices: after Ctrl-C or a kill, `jobq operations resume ID` or a worker goes on with it.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import click

from jobq_client.commands.output import clean, count
from jobq_client.commands.progress import show_progress
from jobq_client.commands.running import ExitCode, Operator, operator_command
from jobq_client.commands.selecting import IdType, MomentType, describe, filter_of, filter_options
from jobq_core.errors import ConfigurationError
from jobq_core.job import MAX_PRIORITY, MIN_PRIORITY
from jobq_core.operating import shown_count, without_payloads
from jobq_core.operations import apply, check_value, start, work_to_end
from jobq_core.storage import Action, JobFilter, OperationState

VERBS: Final = {
    Action.ABORT: "Abort jobs. Waiting jobs end immediately; running jobs are asked to stop.",
    Action.RETRY: "Put failed and aborted jobs back, with all their attempts.",
    Action.DISABLE: "Keep jobs from running until they are enabled; a running job is asked to stop.",
    Action.ENABLE: "Let disabled jobs run again.",
    Action.DELETE: "Delete jobs in any state, with their history.",
    Action.RUN_NOW: "Start jobs that wait for a time as soon as a slot is free.",
    Action.RESCHEDULE: "Change the time at which jobs start: 30m, 2h, 2026-12-01T08:00.",
    Action.MOVE: "Move jobs to another queue, unless they are running.",
    Action.PRIORITY: "Change the priority of jobs that are not running: -100 to 100, higher first.",
}
"""What each command does, in its help."""

_VALUES: Final[dict[Action, tuple[str, str, Any]]] = {
    Action.RESCHEDULE: ("--to", "TIME", MomentType(ahead=True)),
    Action.MOVE: ("--to", "QUEUE", str),
    Action.PRIORITY: ("--to", "N", click.IntRange(MIN_PRIORITY, MAX_PRIORITY)),
}


def _command(action: Action) -> click.Command:
    async def run(
        operator: Operator, ids: tuple[UUID, ...], yes: bool, dry_run: bool, to: Any = None, **filters: Any
    ) -> ExitCode:
        value = check_value(action, None if to is None else to.isoformat() if hasattr(to, "isoformat") else str(to))
        chosen = filter_of(filters)
        if ids and chosen != JobFilter():
            raise click.UsageError("give ids or a filter, not both")
        if not ids and chosen == JobFilter():
            raise click.UsageError(f"give ids, or a filter such as --state failed; see jobq {action} --help")
        if ids:
            return await _change(operator, action, value, ids)
        return await change_all(operator, action, value, chosen, yes=yes, dry_run=dry_run)

    run.__doc__ = f"{VERBS[action]}\n\nGive the IDs of jobs, or a filter. {_BULK}"
    decorated: Any = run
    for option in (
        click.option("--dry-run", is_flag=True, help="Print the number of jobs that match the filter; change nothing."),
        click.option("--yes", is_flag=True, help="Do not ask before jobs that match a filter are changed."),
    ):
        decorated = option(decorated)
    decorated = filter_options(decorated)
    if action in _VALUES:
        flag, metavar, kind = _VALUES[action]
        decorated = click.option(flag, metavar=metavar, type=kind, required=True, help=VERBS[action])(decorated)
    decorated = click.argument("ids", metavar="[ID]...", nargs=-1, type=IdType())(decorated)
    return operator_command(action.value, acts=True)(decorated)


_BULK: Final = (
    "With a filter, the command counts the jobs and asks first; jobs that are added later are not changed. "
    "If it is interrupted, a worker continues it, or `jobq operations resume ID`."
)


async def _change(operator: Operator, action: Action, value: str | None, ids: tuple[UUID, ...]) -> ExitCode:
    """Change jobs by their ids, and print a line for each."""
    changes = await apply(operator.storage, action, value, ids)
    changed = [change for change in changes if change.changed]
    if changed:
        await operator.record(action, *(change.id for change in changed), details=value)
    missing = [change.id for change in changes if change.before is None]
    if operator.output.as_json:
        operator.output.json({"jobs": changes, "changed": len(changed)})
    else:
        for change in changes:
            click.echo(f"{change.id}  {_said(change)}")
    if missing:
        return ExitCode.NOT_FOUND
    return ExitCode.OK if changed else ExitCode.UNMET


def _said(change: Any) -> str:
    if change.before is None:
        return "no such job"
    if not change.changed:
        return f"not changed: it is {change.before.value}"
    if change.asked:
        return f"{change.before.value}; its handler was asked to stop"
    after = "deleted" if change.after is None else change.after.value
    return f"{change.before.value} → {after}"


async def change_all(
    operator: Operator, action: Action, value: str | None, filter: JobFilter, *, yes: bool, dry_run: bool
) -> ExitCode:
    """Change all jobs that match, after a question."""
    matched = await operator.storage.count(filter)
    shown = shown_count(filter, matched)
    words = clean(describe(filter))
    if dry_run:
        if operator.output.as_json:
            operator.output.json({"matched": matched})
        else:
            click.echo(f"{shown} {words}")
        return ExitCode.OK
    if matched == 0:
        click.echo(f"There are no {words}", err=True)
        return ExitCode.UNMET
    if not yes:
        to = "" if value is None else f" to {clean(value)}"
        if operator.output.as_json or not click.confirm(f"{action}{to}: {shown} {words}. Continue?", err=True):
            raise click.UsageError("nothing was changed; add --yes to skip the question")
    operation = await start(operator.storage, action, filter, value=value, actor=operator.actor)
    await operator.record(action, operation.id, details=describe(without_payloads(filter)))
    click.echo(f"Operation {operation.id}", err=True)
    with show_progress(operation.matched) as progress:
        operation = await work_to_end(operator.storage, operation, on_progress=progress)
    if operator.output.as_json:
        operator.output.json(operation)
    else:
        refused = f", {count(operation.refused)} refused" if operation.refused else ""
        click.echo(f"{operation.state}: {count(operation.changed)} of {count(operation.done)} jobs changed{refused}")
    if operation.error:
        raise ConfigurationError(clean(operation.error))
    is_done = operation.state is OperationState.DONE
    return ExitCode.OK if is_done and operation.changed else ExitCode.UNMET


abort = _command(Action.ABORT)
retry = _command(Action.RETRY)
disable = _command(Action.DISABLE)
enable = _command(Action.ENABLE)
delete = _command(Action.DELETE)
run_now = _command(Action.RUN_NOW)
reschedule = _command(Action.RESCHEDULE)
move = _command(Action.MOVE)
priority = _command(Action.PRIORITY)
