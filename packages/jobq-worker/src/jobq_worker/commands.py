"""`jobq worker`: run the jobs of modules until a signal; and the parts that `jobq server` shares with it."""

from __future__ import annotations

import asyncio
import importlib
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol, TypeVar

import attrs
import click

from jobq_core.commands import storage_option
from jobq_core.registry import Registry
from jobq_worker.exits import ExitCode, end_process_soon
from jobq_worker.logs import FORMATS, LEVELS, configure_logging
from jobq_worker.options import COMMAND_LINE, MAX_CONCURRENCY, CommandLine, WorkerOptions
from jobq_worker.worker import JobQueueWorker

C = TypeVar("C", bound=Callable[..., Any])


def serving_options(renamed: Mapping[str, tuple[str, CommandLine]] = {}) -> Callable[[C], C]:
    """Return a decorator that gives a command the parameters of `serve`: modules, storage, the options of a worker that
    have a place on the command line, log_level and log_format.

    renamed: for a field of `WorkerOptions`, the command's word for it and how it appears.
    """
    parameters = [click.argument("modules", metavar="MODULE...", nargs=-1, required=True), storage_option]
    for field in attrs.fields(WorkerOptions):
        shown: CommandLine | None = field.metadata.get(COMMAND_LINE)
        if shown is not None:
            word, shown = renamed.get(field.name, (field.name, shown))
            parameters.append(_option(word, field.default, shown))
    parameters += [
        click.option(
            "--log-level",
            metavar="LEVEL",
            type=click.Choice(LEVELS, case_sensitive=False),
            default="info",
            show_default=True,
            help=f"Log messages of this level and above, to standard error: {', '.join(LEVELS)}.",
        ),
        click.option(
            "--log-format",
            type=click.Choice(FORMATS),
            default="text",
            show_default=True,
            help="Log lines of text, or one JSON object per line.",
        ),
    ]

    def decorate(command: C) -> C:
        for parameter in reversed(parameters):
            command = parameter(command)
        return command

    return decorate


def _option(word: str, default: Any, shown: CommandLine) -> Callable[[C], C]:
    if shown.type is bool:
        return click.option(f"--{word.replace('_', '-')}", word, is_flag=True, default=default, help=shown.help)
    return click.option(
        shown.flag or f"--{word.replace('_', '-')}",
        word,
        metavar=shown.metavar,
        type=click.IntRange(0, MAX_CONCURRENCY) if shown.type is int else shown.type,
        multiple=shown.repeated,
        callback=_none_for_nothing if shown.repeated else None,
        default=default,
        show_default=shown.default is None,
        help=shown.help if shown.default is None else f"{shown.help}  [default: {shown.default}]",
    )


def _none_for_nothing(_context: click.Context, _parameter: click.Parameter, values: tuple[Any, ...]) -> Any:
    return values or None


class Servable(Protocol):
    """A worker or a server: serves until a signal."""

    async def run(self) -> None:
        """Serve until a signal."""
        ...


def serve(
    make: Callable[..., Servable], modules: Sequence[str], *, log_level: str, log_format: str, **options: Any
) -> None:
    """Make a worker or a server for the jobs of these modules, and run it until a signal. Logs to standard error."""
    configure_logging(log_level, log_format)
    jobs = [load_module(module) for module in modules]
    warn_of_memory(options["storage"])
    with asyncio.Runner() as runner:
        runner.run(make(jobs=jobs, **options).run())
        # The event loop closes when the threads of `asyncio.to_thread` have ended, which nothing stops.
        cancel = end_process_soon(ExitCode.RUNS_LEFT)
    cancel()


@click.command()
@serving_options()
def worker(modules: tuple[str, ...], **options: Any) -> None:
    """Run the jobs that MODULEs declare, until SIGTERM or SIGINT (Ctrl-C).

    A MODULE is named as for import, such as shop.jobs; the working directory is searched too.

    A limiter, a retention, or a handler for a job that was declared without one needs a program of your own: see
    jobq_worker.JobQueueWorker.
    """
    serve(JobQueueWorker, modules, **options)


def warn_of_memory(url: str) -> None:
    """Warn of a memory:// URL: no other process can add jobs to the memory of a worker."""
    if url.lower().startswith("memory:"):
        click.echo(
            "Warning: memory:// is the memory of this process, where no other process can add jobs; "
            "use sqlite:///jobs.db or postgresql://host/database",
            err=True,
        )


def load_module(name: str) -> ModuleType:
    """Import a module that declares jobs, searching the working directory too.

    Raises click.ClickException if there is no such module, if it declares no job, or if its import fails; then with the
    traceback from the module on.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise click.ClickException(f"a module is named as for import, such as shop.jobs, not {name!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(name)  # noqa: TID251  (named on the command line)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise click.ClickException(
                f"there is no module {name!r}, neither installed nor in the working directory (name it as for import)"
            ) from error
        raise click.ClickException(f"the module {name!r} failed to import:\n{_trace(error)}") from error
    if not len(Registry(module)):
        raise click.ClickException(f"the module {name!r} declares no jobs: decorate functions or classes with @job")
    return module


def _trace(error: Exception) -> str:
    """Format the traceback of a failed import, without the frames of jobq and Python that led to the module."""
    trace = error.__traceback__
    while trace is not None and (
        trace.tb_frame.f_code.co_filename.startswith("<frozen importlib")
        or trace.tb_frame.f_code.co_filename in (__file__, importlib.__file__)
    ):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
