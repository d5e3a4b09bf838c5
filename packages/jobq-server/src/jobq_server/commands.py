"""`jobq server`: run a pool of workers until told to stop."""

from __future__ import annotations

from typing import Any

import click

from jobq_server.server import JobQueueServer
from jobq_worker.commands import load_module, serve, serving_options, warn_of_memory
from jobq_worker.worker import MAX_CONCURRENCY


@click.command()
@serving_options
@click.option(
    "--workers",
    "worker_count",
    metavar="N",
    type=click.IntRange(0, MAX_CONCURRENCY),
    default=10,
    show_default=True,
    help="Have this many workers, each of which runs one job at a time.",
)
def server(modules: tuple[str, ...], **options: Any) -> None:
    """Run a pool of workers for the jobs that MODULEs declare, until SIGTERM or SIGINT (Ctrl-C).

    A MODULE is named as for import, such as shop.jobs; the working directory is searched too.

    A limiter, a retention, scaling while it runs, or a body for a job that was declared without one needs a program of
    your own: see jobq_server.JobQueueServer.
    """
    jobs = [load_module(module) for module in modules]
    warn_of_memory(options["storage"])
    serve(JobQueueServer(jobs=jobs, **options))
