"""The parameters that the commands `jobq worker`, `jobq server` and `jobq check` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import attrs
import click

from jobq_core.commands import optional_storage_option
from jobq_core.errors import ConfigurationError
from jobq_worker.logs import FORMATS, LEVELS
from jobq_worker.options import COMMAND_LINE, MAX_PROCESSES, CommandLine, Size, WorkerOptions

C = TypeVar("C", bound=Callable[..., Any])

CONFIGURATION_HELP: Final = (
    "Each option can also be set in the environment, as JOBQ_CONCURRENCY, or in the table [tool.jobq] of "
    "pyproject.toml, as concurrency = 20; the command line comes first, then the environment."
)
"""The end of the help of each command with these parameters."""

OTHER_KEYS: Final = frozenset(
    {"concurrency", "worker_count", "min_workers", "max_workers", "min_processes", "max_processes", "target_wait"}
)
"""Keys that one of the commands has and another ignores."""


def serving_options(renamed: Mapping[str, tuple[str, CommandLine]] = {}) -> Callable[[C], C]:
    """Return a decorator that gives a command the parameters of `serve`: modules, discover, storage, the options of a
    worker that have a place on the command line, log_level and log_format.

    renamed: for a field of `WorkerOptions`, the command's word for it and how it appears.
    """
    parameters = [
        click.argument("modules", metavar="MODULE...", nargs=-1, callback=_modules),
        click.option("--discover", is_flag=True, help="Import the submodules of each MODULE too, and use their jobs."),
        optional_storage_option,
    ]
    for field in attrs.fields(WorkerOptions):
        shown: CommandLine | None = field.metadata.get(COMMAND_LINE)
        if shown is not None:
            word, shown = renamed.get(field.name, (field.name, shown))
            parameters.append(field_option(word, field, shown))
    parameters += [
        click.option(
            "--processes",
            metavar="N",
            type=click.IntRange(1, MAX_PROCESSES),
            help="Run N worker processes, called NAME-1 to NAME-N, and restart each that ends; the other options are "
            "those of each process.  [default: one process, without supervision]",
        ),
        click.option(
            "--reload",
            is_flag=True,
            help="For development: restart when a .py file of the working directory changes.",
        ),
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


def field_option(word: str, field: attrs.Attribute[Any], shown: CommandLine) -> Callable[[C], C]:
    """Return a decorator that gives a command an option for a field of an attrs class. word: the option's name."""
    default: Any = None if field.default is attrs.NOTHING else field.default
    if shown.type is bool:
        return click.option(f"--{word.replace('_', '-')}", word, is_flag=True, default=default, help=shown.help)
    return click.option(
        shown.flag or f"--{word.replace('_', '-')}",
        word,
        metavar=shown.metavar,
        type=_type(shown),
        multiple=shown.repeated,
        callback=_checker(field),
        default=default,
        show_default=shown.default is None,
        help=shown.help if shown.default is None else f"{shown.help}  [default: {shown.default}]",
    )


def _type(shown: CommandLine) -> Any:
    if shown.type is int:
        return click.IntRange(shown.least, shown.most)
    return SizeType() if shown.type is Size else shown.type


class SizeType(click.ParamType[Any]):
    """An amount of memory. accepted: the types of its value in pyproject.toml. expected: the same in words."""

    name = "size"
    accepted = (int, str)
    expected = "a number of bytes, or a text such as '500MB'"


def _checker(field: attrs.Attribute[Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a callback that checks a value as `WorkerOptions` does, so that the error names where it was given."""
    convert: Any = field.converter

    def check(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        if value is None or value == ():
            return None
        try:
            return convert(value)
        except ConfigurationError as error:
            raise click.BadParameter(str(error)) from error

    return check


def _modules(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Return the modules of the command line, or the configured ones; raises MissingParameter without any."""
    modules = tuple(value or context.lookup_default("modules") or ())
    if not modules and getattr(context.command, "strict", True):
        raise click.MissingParameter(ctx=context, param=parameter)
    return modules
