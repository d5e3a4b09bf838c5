"""The `jobq` command: its root, and `jobq migrate`. Each distribution adds its own through the entry points
`jobq.commands`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any, Final

import click

from jobq_core.errors import JobQueueError
from jobq_core.urls import open_storage

GROUP = "jobq.commands"
"""The entry points: name of the command → click command."""

storage_option = click.option(
    "--storage",
    metavar="URL",
    envvar="JOBQ_STORAGE",
    show_envvar=True,
    required=True,
    help="Where the jobs are: postgresql://…, sqlite:///jobs.db",
)


_CREDENTIALS: Final = re.compile(r"""(\w+://)?[^\s('"]*:\S*(?=@)|(?<=password=)('[^']*'|[^\s&]+)""")
"""What stands before the @ of an address, or after a DSN's password=."""


@contextmanager
def _credentials_left_out() -> Iterator[None]:
    """Say what is wrong with a command without the credentials in it: click repeats words that it did not expect."""
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
    """A group whose commands are those of the distributions that are installed; each is loaded when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({entry.name for entry in entry_points(group=GROUP)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for entry in entry_points(group=GROUP, name=cmd_name):
            command = entry.load()
            if not isinstance(command, click.Command):
                raise click.ClickException(
                    f"the entry point {entry.name!r} of {GROUP} is no click command: {command!r}"
                )
            return command
        return None

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _credentials_left_out():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _credentials_left_out():
            try:
                return super().invoke(ctx)
            except JobQueueError as error:
                raise click.ClickException(str(error)) from error


@click.group(cls=_Installed, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jobq-core", prog_name="jobq")
def main() -> None:
    """Run and look after jobq, the job queue on the database you already have."""


@click.command()
@storage_option
@click.option("--sql", is_flag=True, help="Print the migrations as SQL and change nothing.")
@click.option(
    "--phase",
    type=click.Choice(["pre", "post", "all"]),
    default="all",
    show_default=True,
    help="'pre' migrations are safe while older code runs, 'post' ones once it is gone.",
)
def migrate(storage: str, sql: bool, phase: Any) -> None:
    """Create the storage's tables, or bring them up to date.

    Run it before the first start and before each upgrade; running it again changes nothing. Without a stop:
    --phase pre, then replace the running code, then --phase post.
    """
    opened = open_storage(storage)
    if sql and phase != "all":
        raise click.UsageError("--sql prints the migrations of all phases: leave --phase out")
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
