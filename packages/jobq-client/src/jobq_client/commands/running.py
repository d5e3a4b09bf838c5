"""`operator_command`: what the operator's commands have in common.

Each opens the storage, runs a coroutine with an `Operator`, and exits with a stable code.
"""

from __future__ import annotations

import asyncio
import getpass
import socket
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import Any

import attrs
import click

from jobq_client.commands.output import Output
from jobq_core.commands import storage_option
from jobq_core.configuration import ConfiguredCommand
from jobq_core.errors import JobNotFoundError
from jobq_core.operating import audit_entries
from jobq_core.storage import QueueStorage
from jobq_core.urls import open_storage


class ExitCode(IntEnum):
    """The exit codes of the operator's commands."""

    OK = 0
    ERROR = 1
    """The storage failed, or the command could not be carried out."""
    USAGE = 2
    NOT_FOUND = 3
    """There is no such job, worker or operation."""
    UNMET = 4
    """What was asked about does not hold: the job failed, nothing was changed, something is wrong."""


@attrs.frozen
class Operator:
    """An operator at work: an open storage, where to print, and who acts."""

    storage: QueueStorage
    output: Output
    actor: str

    async def record(self, action: str, *targets: object, details: Any = None) -> None:
        """Write to the audit what was done to each target."""
        await self.storage.record_audit(audit_entries(self.actor, action, targets, details))


Run = Callable[..., Awaitable[ExitCode | None]]


def operator_command(
    name: str, *, acts: bool = False, shows_json: bool = True
) -> Callable[[Run | click.Command], click.Command]:
    """Make a command of a coroutine function that takes an Operator and the command's parameters.

    acts: whether it changes anything, and takes --actor. shows_json: whether it takes --json.
    """

    def decorate(function: Any) -> click.Command:
        def run(storage: str, as_json: bool = False, actor: str | None = None, **options: Any) -> None:
            raise SystemExit(asyncio.run(_run(function, storage, Output(as_json), actor or _user(), options)))

        run.__doc__ = function.__doc__
        run.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
        if acts:
            run = _actor_option(run)
        if shows_json:
            run = _json_option(run)
        run = storage_option(run)
        own = {str(parameter.name) for parameter in run.__click_params__} - {"storage"}  # type: ignore[attr-defined]
        return click.command(name, cls=ConfiguredCommand, unconfigured=frozenset(own))(run)

    return decorate


class ListingGroup(click.Group):
    """A group whose command `list` is meant where none is named: `jobq workers` is `jobq workers list`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        is_help = bool(args) and args[0] in self.get_help_option_names(ctx)
        if not args or (args[0].startswith("-") and not is_help):
            args = ["list", *args]
        return super().parse_args(ctx, args)


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, with times in UTC.")
_actor_option = click.option(
    "--actor", metavar="NAME", help="Name that the audit records.  [default: the user's name and the host's]"
)


async def _run(function: Run, url: str, output: Output, actor: str, options: dict[str, Any]) -> ExitCode:
    storage = open_storage(url)
    storage.keep_schema()  # a mistyped address must not make a new, empty storage
    async with storage:
        try:
            return await function(Operator(storage, output, actor), **options) or ExitCode.OK
        except JobNotFoundError as error:
            click.echo(f"Error: {error}", err=True)
            return ExitCode.NOT_FOUND


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        name = "unknown"
    return f"{name}@{socket.gethostname()}"
