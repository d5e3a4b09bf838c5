"""`jobq grant`: grant roles the rights of their parts."""

from __future__ import annotations

import asyncio
from typing import cast

import click

from jobq_core.commands import storage_option
from jobq_core.configuration import ConfiguredCommand
from jobq_core.errors import ConfigurationError
from jobq_core.urls import open_storage
from jobq_storage_postgres.grants import Part
from jobq_storage_postgres.storage import PostgresQueueStorage


@click.command(cls=ConfiguredCommand)
@storage_option
@click.option("--producer", metavar="ROLE", multiple=True, help="May add jobs and wait for them.")
@click.option("--worker", metavar="ROLE", multiple=True, help="May run jobs and do the maintenance.")
@click.option("--reader", metavar="ROLE", multiple=True, help="May find and count jobs and workers.")
@click.option(
    "--operator", metavar="ROLE", multiple=True, help="May read, and abort, retry, disable, enable and delete jobs."
)
@click.option("--sql", is_flag=True, help="Print the SQL, and change nothing.")
def grant(storage: str, sql: bool, **roles: tuple[str, ...]) -> None:
    """Grant PostgreSQL roles the rights of their parts, and no others.

    Run it as the role that migrates, after each `jobq migrate`. A repeated run changes nothing. The roles must exist.
    Each option may be repeated, and one role may have several parts: a server that also adds jobs is a worker, a reader
    and a producer.
    """
    opened = open_storage(storage)
    if not isinstance(opened, PostgresQueueStorage):
        raise ConfigurationError("roles exist only in PostgreSQL: use a storage URL that begins with postgresql://")
    if not any(roles.values()):
        raise click.UsageError("name a role, as in --producer web --worker jobs")
    parts = cast("dict[Part, tuple[str, ...]]", roles)
    if sql:
        click.echo(opened.grant_sql(parts))
        return
    asyncio.run(opened.grant(parts))
    for part, names in roles.items():
        for name in names:
            click.echo(f"granted {name} the rights of a {part}")
