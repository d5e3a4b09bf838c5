"""`jobq mcp`: serve assistants over standard input and output."""

from __future__ import annotations

import click

from jobq_core.commands import storage_option
from jobq_core.configuration import ConfiguredCommand
from jobq_core.urls import open_storage


@click.command(cls=ConfiguredCommand, unconfigured=frozenset({"show_payloads"}))
@storage_option
@click.option("--show-payloads", is_flag=True, help="Show the arguments, results, headers and progress of jobs too.")
def mcp(storage: str, show_payloads: bool) -> None:
    """Let an assistant look at the queues: a server of the Model Context Protocol on standard input and output.

    It reads, and changes nothing. It needs `jobq-server[mcp]`.
    """
    try:
        from jobq_server.mcp_server import make_mcp_server
    except ModuleNotFoundError as error:
        raise click.ClickException(f"jobq mcp needs {error.name}: pip install 'jobq-server[mcp]'") from error
    make_mcp_server(open_storage(storage), show_payloads=show_payloads).run("stdio")
