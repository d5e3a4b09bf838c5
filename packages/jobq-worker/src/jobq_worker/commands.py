"""`jobq worker`: run the jobs of modules until a signal; and `serve`, which `jobq server` shares with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import click

from jobq_core.configuration import ConfiguredCommand
from jobq_core.registry import Registry
from jobq_worker.command_options import CONFIGURATION_HELP, OTHER_KEYS, serving_options
from jobq_worker.exits import ExitCode, end_process_soon
from jobq_worker.logs import configure_logging
from jobq_worker.modules import load_modules
from jobq_worker.worker import JobQueueWorker

logger = logging.getLogger("jobq.worker")

MAX_LISTED: Final = 20
"""Maximum number of jobs that the log line at the start names."""


class Servable(Protocol):
    """A worker or a server: serves until a signal."""

    async def run(self) -> None:
        """Serve until a signal."""
        ...


def serve(
    make: Callable[..., Servable],
    modules: Sequence[str],
    *,
    discover: bool,
    log_level: str,
    log_format: str,
    **options: Any,
) -> None:
    """Make a worker or a server for the jobs of these modules, and run it until a signal. Logs to standard error."""
    configure_logging(log_level, log_format)
    jobs = load_modules(modules, discover=discover)
    warn_of_memory(options["storage"])
    served = make(jobs=jobs, **options)
    logger.info("%s", describe_jobs([definition.kind for definition in Registry(jobs)], modules))
    with asyncio.Runner() as runner:
        runner.run(served.run())
        # The event loop closes when the threads of `asyncio.to_thread` have ended, which nothing stops.
        cancel = end_process_soon(ExitCode.RUNS_LEFT)
    cancel()


@click.command(cls=ConfiguredCommand, other_keys=OTHER_KEYS, epilog=CONFIGURATION_HELP)
@serving_options()
def worker(modules: tuple[str, ...], **options: Any) -> None:
    """Run the jobs that MODULEs declare, until SIGTERM or SIGINT (Ctrl-C).

    A MODULE is named as for import, such as shop.jobs; the working directory is searched too.

    A limiter, a retention, or a handler for a job that was declared without one needs a program of your own: see
    jobq_worker.JobQueueWorker.
    """
    serve(JobQueueWorker, modules, **options)


def describe_jobs(kinds: Sequence[str], modules: Sequence[str]) -> str:
    """Return a line that names the jobs found in modules, MAX_LISTED at most."""
    jobs = f"{len(kinds)} job{'s' if len(kinds) != 1 else ''}"
    more = f" and {len(kinds) - MAX_LISTED} more" if len(kinds) > MAX_LISTED else ""
    return f"found {jobs} in {', '.join(modules)}: {', '.join(sorted(kinds)[:MAX_LISTED])}{more}"


def warn_of_memory(url: str) -> None:
    """Warn of a memory:// URL: no other process can add jobs to the memory of a worker."""
    if url.lower().startswith("memory:"):
        click.echo(
            "Warning: memory:// is the memory of this process, where no other process can add jobs; "
            "use sqlite:///jobs.db or postgresql://host/database",
            err=True,
        )
