"""`jobq server`: run a pool of workers until a signal."""

from __future__ import annotations

from typing import Any, Final

import click

from jobq_core.configuration import ConfiguredCommand
from jobq_server.server import JobQueueServer
from jobq_worker.commands.command_options import CONFIGURATION_HELP, OTHER_KEYS, serving_options
from jobq_worker.commands.worker_command import serve
from jobq_worker.options import CommandLine

WORKERS: Final = CommandLine(
    flag="--workers", help="Number of workers; each runs one job at a time.", metavar="N", type=int
)


@click.command(cls=ConfiguredCommand, other_keys=OTHER_KEYS, epilog=CONFIGURATION_HELP)
@serving_options(renamed={"concurrency": ("worker_count", WORKERS)})
def server(modules: tuple[str, ...], **options: Any) -> None:
    """Run a pool of workers for the jobs that MODULEs declare, until SIGTERM or SIGINT (Ctrl-C).

    A MODULE is named as for import, such as shop.jobs; the working directory is searched too.

    MODULE:SERVER, such as shop.work:server, runs the JobQueueServer of that name in the module, with its jobs,
    middleware, lifespans, resources, limiter and retention. The options given here replace those that it was made with.
    """
    serve(JobQueueServer, modules, **options)
