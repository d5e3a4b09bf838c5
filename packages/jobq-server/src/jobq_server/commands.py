"""`jobq server`: run a pool of workers until a signal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import attrs
import click

from jobq_core.configuration import ConfiguredCommand
from jobq_core.errors import ConfigurationError
from jobq_server.autoscaling.options import Autoscaler
from jobq_server.server import JobQueueServer
from jobq_worker.commands.command_options import CONFIGURATION_HELP, OTHER_KEYS, field_option, serving_options
from jobq_worker.commands.named_worker import is_given
from jobq_worker.commands.worker_command import serve
from jobq_worker.options import COMMAND_LINE, CommandLine

C = TypeVar("C", bound=Callable[..., Any])

WORKERS: Final = CommandLine(
    flag="--workers", help="Number of workers; each runs one job at a time.", metavar="N", type=int
)

SCALING: Final[Mapping[str, str]] = {"min_workers": "min", "max_workers": "max", "target_wait": "target_wait"}
"""The command's options of an Autoscaler, and their fields."""


def _scaling_options(command: C) -> C:
    """Give a command the options of an Autoscaler."""
    fields = attrs.fields_dict(Autoscaler)
    for word, name in reversed(list(SCALING.items())):
        field = fields[name]
        command = field_option(word, field, field.metadata[COMMAND_LINE])(command)
    return command


@click.command(cls=ConfiguredCommand, other_keys=OTHER_KEYS, epilog=CONFIGURATION_HELP)
@serving_options(renamed={"concurrency": ("worker_count", WORKERS)})
@_scaling_options
@click.pass_context
def server(context: click.Context, /, modules: tuple[str, ...], **options: Any) -> None:
    """Run a pool of workers for the jobs that MODULEs declare, until SIGTERM or SIGINT (Ctrl-C).

    A MODULE is named as for import, such as shop.jobs; the working directory is searched too.

    MODULE:SERVER, such as shop.work:server, runs the JobQueueServer of that name in the module, with its jobs,
    middleware, lifespans, resources, limiter and retention. The options given here replace those that it was made with.
    """
    autoscaler = _autoscaler(context, {word: options.pop(word) for word in SCALING})
    serve(JobQueueServer, modules, autoscale=autoscaler, **options)


def _autoscaler(context: click.Context, options: Mapping[str, Any]) -> Autoscaler | None:
    """Return the Autoscaler of the command line; None without --max-workers. Raises UsageError."""
    if options["max_workers"] is None:
        for word in options:
            if is_given(context, word):
                raise click.UsageError(f"--{word.replace('_', '-')} needs --max-workers")
        return None
    try:
        return Autoscaler(**{SCALING[word]: value for word, value in options.items()})
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
