"""The `jobq` command and `jobq migrate`. Other distributions add commands through the entry points `jobq.commands`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any, Final, TypeVar

import click

from jobq_core.configuration import ConfiguredCommand
from jobq_core.errors import JobQueueError
from jobq_core.urls import open_storage

C = TypeVar("C", bound=Callable[..., Any])

GROUP = "jobq.commands"
"""The entry points: name of the command → click command."""

_OPERATING: Final = (
    *("abort", "add", "audit", "delete", "disable", "doctor", "enable", "failed", "health", "jobs", "move"),
    *("operations", "pause", "priority", "purge", "queues", "reschedule", "resume", "retry", "run-now", "show"),
    *("stats", "status", "top", "wait", "why", "workers"),
)
_DISTRIBUTIONS: Final = {
    **dict.fromkeys(_OPERATING, "jobq-client"),
    "check": "jobq-worker",
    "grant": "jobq-storage-postgres",
    "mcp": "jobq-server",
    "server": "jobq-server",
    "worker": "jobq-worker",
}
"""Distributions that hold the commands which jobq-core does not."""


def _storage_option(*, required: bool) -> Callable[[C], C]:
    return click.option(
        "--storage",
        metavar="URL",
        envvar="JOBQ_STORAGE",
        show_envvar=True,
        required=required,
        help="URL of the storage: postgresql://…, sqlite:///jobs.db",
    )


storage_option = _storage_option(required=True)
optional_storage_option = _storage_option(required=False)


_CREDENTIALS: Final = re.compile(r"""(\w+://)?[^\s('"]*:\S*(?=@)|(?<=password=)('[^']*'|[^\s&]+)""")
"""The credentials in a URL, before its @, and in a DSN, after password=."""


@contextmanager
def _credentials_left_out() -> Generator[None]:
    """Remove credentials from error messages: click repeats a word that it does not expect."""
    try:
        yield
    except click.ClickException as error:
        said = error.format_message()
        left = _CREDENTIALS.sub(r"\1…", said)
        if left == said:
            raise
        if isinstance(error, click.UsageError):
            raise click.UsageError(left, error.ctx) from None
        raise click.ClickException(left) from None


class _Installed(click.Group):
    """A group of the commands of all installed distributions; a command is loaded when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({entry.name for entry in entry_points(group=GROUP)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for entry in entry_points(group=GROUP, name=cmd_name):
            command = entry.load()
            if not isinstance(command, click.Command):
                raise click.ClickException(
                    f"the entry point {entry.name!r} of {GROUP} must be a click command, not {command!r}"
                )
            return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        hint = "" if self.get_command(ctx, args[0]) else _hint(args[0], self.list_commands(ctx))
        if hint and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands in a section for each distribution."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
            command = self.get_command(ctx, entry.name)
            if command is not None and not command.hidden:
                section = "Commands" if entry.dist is None else f"Commands of {entry.dist.name}"
                sections.setdefault(section, []).append((entry.name, command.get_short_help_str(limit=formatter.width)))
        for section, rows in sorted(sections.items()):
            with formatter.section(section):
                formatter.write_dl(rows)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _credentials_left_out():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _credentials_left_out():
            try:
                return super().invoke(ctx)
            except JobQueueError as error:
                raise click.ClickException(str(error)) from error


def _hint(name: str, installed: list[str]) -> str:
    """Return what an unknown command may be: one of a distribution that is not installed, or a mistyped one."""
    missing = {command: where for command, where in _DISTRIBUTIONS.items() if command not in installed}
    if name in missing:
        return f"{missing[name]} provides it: pip install {missing[name]}"
    found = get_close_matches(name, [*installed, *missing], n=1)
    if not found:
        return ""
    install = f" ({missing[found[0]]} provides it: pip install {missing[found[0]]})" if found[0] in missing else ""
    return f"Did you mean {found[0]!r}?{install}"


@click.group(cls=_Installed, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jobq-core", prog_name="jobq")
def main() -> None:
    """Run and look after jobq, the job queue on the database you already have."""


@click.command(cls=ConfiguredCommand)
@storage_option
@click.option("--sql", is_flag=True, help="Print the migrations as SQL and change nothing.")
@click.option(
    "--phase",
    type=click.Choice(["pre", "post", "all"]),
    default="all",
    show_default=True,
    help="'pre' migrations are safe while older code runs, 'post' migrations after it has stopped.",
)
def migrate(storage: str, sql: bool, phase: Any) -> None:
    """Create the storage's tables, or bring them up to date.

    Run it before the first start and before each upgrade; running it again changes nothing. To upgrade without a
    stop, run --phase pre, replace the running code, then run --phase post.
    """
    opened = open_storage(storage)
    if sql and phase != "all":
        raise click.UsageError("--sql prints the migrations of all phases: remove --phase")
    if sql:
        click.echo(opened.migration_sql())
        return
    applied = asyncio.run(_migrate(opened, phase))
    for name in applied:
        click.echo(f"applied {name}")
    if not applied:
        click.echo("up to date")


async def _migrate(storage: Any, phase: Any) -> list[str]:
    try:
        return list(await storage.migrate(phase))
    finally:
        await storage.close()
