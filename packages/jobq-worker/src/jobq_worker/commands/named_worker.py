"""`module:worker` on the command line: a worker or server that a module has made, with what is around its handlers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

import click
from click.core import ParameterSource

from jobq_worker.commands.modules import ModuleError, import_module
from jobq_worker.worker import JobQueueWorker

GIVEN: Final = frozenset({ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP})


def names_worker(modules: Sequence[str]) -> bool:
    """Return whether the command line names a worker; raises UsageError if it names modules of jobs beside it."""
    if not any(":" in name for name in modules):
        return False
    if len(modules) > 1:
        raise click.UsageError(
            "MODULE:WORKER stands alone: the worker that it names has its jobs, given as JobQueueWorker(jobs=[…])"
        )
    return True


def load_worker(name: str, wanted: type[JobQueueWorker] = JobQueueWorker) -> JobQueueWorker:
    """Import the module of a name such as shop.work:worker, and return the worker in it. Raises ModuleError."""
    module_name, _, attribute = name.partition(":")
    module = import_module(module_name)
    try:
        found = attrgetter(attribute)(module)
    except AttributeError:
        raise ModuleError(f"the module {module_name!r} has no {attribute!r}") from None
    if not isinstance(found, wanted):
        raise ModuleError(f"{name} must be a {wanted.__name__}, not a {type(found).__name__}")
    return found


def given_parameters(context: click.Context, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the command line, the environment or pyproject.toml give, and those that the command made
    of other parameters, if they are not None."""
    parameters = {parameter.name for parameter in context.command.params}
    return {
        name: value
        for name, value in options.items()
        if (is_given(context, name) if name in parameters else value is not None)
    }


def is_given(context: click.Context, name: str) -> bool:
    """Return whether the command line, the environment or pyproject.toml give this parameter."""
    return context.get_parameter_source(name) in GIVEN
