"""`jobq worker`: run the jobs of modules until told to stop; and what `jobq server` shares with it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol, TypeVar

import click

from jobq_core.commands import storage_option
from jobq_core.registry import Registry
from jobq_worker.worker import JobQueueWorker

C = TypeVar("C", bound=Callable[..., Any])

_OPTIONS = (
    click.argument("modules", metavar="MODULE...", nargs=-1, required=True),
    storage_option,
    click.option(
        "--queue",
        "queues",
        metavar="NAME",
        multiple=True,
        callback=lambda _context, _option, queues: queues or None,
        help="Take jobs from this queue; may be given several times.  [default: those that the jobs declare]",
    ),
    click.option("--name", metavar="NAME", help="What to call this worker.  [default: the host's name]"),
    click.option(
        "--heartbeat-interval",
        metavar="SECONDS",
        type=float,
        default=10.0,
        show_default=True,
        help="Give a sign of life this often.",
    ),
    click.option(
        "--lost-after",
        metavar="SECONDS",
        type=float,
        default=30.0,
        show_default=True,
        help="Let others take the jobs back after this long without a sign of life.",
    ),
    click.option(
        "--stop-timeout",
        metavar="SECONDS",
        type=float,
        default=30.0,
        show_default=True,
        help="On SIGTERM or SIGINT, wait this long for running jobs; a second signal stops at once.",
    ),
)


def serving_options(command: C) -> C:
    """Give a command what every command that runs jobs takes.

    These are the parameters modules, storage, queues, name, heartbeat_interval, lost_after and stop_timeout.
    """
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class Servable(Protocol):
    """What `serve` can run: a worker, or something that has one inside."""

    async def run(self) -> None:
        """Serve until a signal."""
        ...


def serve(servable: Servable) -> None:
    """Run it until a signal, with logging on standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    asyncio.run(servable.run())


@click.command()
@serving_options
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Run this many jobs at the same time.",
)
def worker(modules: tuple[str, ...], **options: Any) -> None:
    """Run the jobs that MODULEs declare, until SIGTERM or SIGINT (Ctrl-C).

    A MODULE is named as for import, such as shop.jobs; the working directory is searched too.

    A limiter, a retention, or a body for a job that was declared without one needs a program of your own: see
    jobq_worker.JobQueueWorker.
    """
    serve(JobQueueWorker(jobs=[load_module(module) for module in modules], **options))


def load_module(name: str) -> ModuleType:
    """Import a module that declares jobs, searching the working directory too.

    Raises click.ClickException if there is no such module, or no job in it; what the module raises is let through.
    """
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise click.ClickException(
            f"there is no module {name!r}, neither installed nor in the working directory (name it as for import)"
        ) from error
    if not len(Registry(module)):
        raise click.ClickException(f"the module {name!r} declares no jobs: decorate functions or classes with @job")
    return module
