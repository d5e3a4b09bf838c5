"""`jobq grant`: let roles do their parts."""

from __future__ import annotations

import asyncio
from typing import cast

import click

from jobq_core.commands import storage_option
from jobq_core.errors import ConfigurationError
from jobq_core.urls import open_storage
from jobq_storage_postgres.grants import Part
from jobq_storage_postgres.storage import PostgresQueueStorage


@click.command()
@storage_option
@click.option("--producer", metavar="ROLE", multiple=True, help="Let it add jobs and wait for them.")
@click.option("--worker", metavar="ROLE", multiple=True, help="Let it run jobs and look after the tables.")
@click.option("--reader", metavar="ROLE", multiple=True, help="Let it find and count jobs and workers.")
@click.option(
    "--operator", metavar="ROLE", multiple=True, help="Let it abort, retry, disable, enable and delete jobs, and read."
)
@click.option("--sql", is_flag=True, help="Print the SQL and change nothing.")
def grant(storage: str, sql: bool, **roles: tuple[str, ...]) -> None:
    """Let roles of PostgreSQL do their parts, each nothing but its own.

    Run it as the role that migrates, after `jobq migrate`; running it again changes nothing. The roles must exist. Each
    option may be given several times, and one role may have several parts: a server that adds jobs too is a worker, a
    reader and a producer.
    """
    opened = open_storage(storage)
    if not isinstance(opened, PostgresQueueStorage):
        raise ConfigurationError("only PostgreSQL has roles: give a storage that begins with postgresql://")
    if not any(roles.values()):
        raise click.UsageError("name a role, as in --producer web --worker jobs")
    parts = cast("dict[Part, tuple[str, ...]]", roles)
    if sql:
        click.echo(opened.grant_sql(parts))
        return
    asyncio.run(opened.grant(parts))
    for part, names in roles.items():
        for name in names:
            click.echo(f"{name} is a {part} now")
