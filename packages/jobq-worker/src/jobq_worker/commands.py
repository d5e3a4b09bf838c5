"""`jobq worker`: run the jobs of modules until told to stop; and what `jobq server` shares with it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol, TypeVar

import click

from jobq_core.commands import storage_option
from jobq_core.registry import Registry
from jobq_worker.worker import MAX_CONCURRENCY, JobQueueWorker

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
    type=click.IntRange(0, MAX_CONCURRENCY),
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
    jobs = [load_module(module) for module in modules]
    warn_of_memory(options["storage"])
    serve(JobQueueWorker(jobs=jobs, **options))


def warn_of_memory(url: str) -> None:
    """Say that nobody can add jobs to the memory of a process that only works, if that is what the URL names."""
    if url.lower().startswith("memory:"):
        click.echo(
            "Warning: memory:// is the memory of this process, where no other can add jobs; "
            "use sqlite:///jobs.db or postgresql://host/database",
            err=True,
        )


def load_module(name: str) -> ModuleType:
    """Import a module that declares jobs, searching the working directory too.

    Raises click.ClickException if there is no such module, no job in it, or it fails as it is imported; the latter with
    the traceback from the module on.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise click.ClickException(f"a module is named as for import, such as shop.jobs, not {name!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(name)  # noqa: TID251  (named by whoever starts the worker)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise click.ClickException(
                f"there is no module {name!r}, neither installed nor in the working directory (name it as for import)"
            ) from error
        raise click.ClickException(f"the module {name!r} failed as it was imported:\n{_trace(error)}") from error
    if not len(Registry(module)):
        raise click.ClickException(f"the module {name!r} declares no jobs: decorate functions or classes with @job")
    return module


def _trace(error: Exception) -> str:
    """Write the traceback of a failed import without the frames that led to the module: these are ours and Python's."""
    trace = error.__traceback__
    while trace is not None and (
        trace.tb_frame.f_code.co_filename.startswith("<frozen importlib")
        or trace.tb_frame.f_code.co_filename in (__file__, importlib.__file__)
    ):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
