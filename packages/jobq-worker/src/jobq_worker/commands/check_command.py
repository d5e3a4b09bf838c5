"""`jobq check`: load what a worker would load, and report each problem in one line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import attrs
import click

from jobq_core.configuration import CONFIGURATION, ConfiguredCommand
from jobq_core.errors import JobQueueError
from jobq_core.job import definition_of
from jobq_core.registry import Registry, declared_in
from jobq_core.urls import open_storage
from jobq_worker.around.around import Around
from jobq_worker.commands.command_options import OTHER_KEYS, serving_options
from jobq_worker.commands.modules import ModuleError, check_declares, walk
from jobq_worker.commands.named_worker import load_worker, names_worker
from jobq_worker.commands.worker_command import describe_jobs
from jobq_worker.executors import EXECUTORS
from jobq_worker.options import WorkerOptions
from jobq_worker.running.handlers import Handlers


@click.command(cls=ConfiguredCommand, other_keys=OTHER_KEYS, strict=False, unconfigured=frozenset({"connect"}))
@serving_options()
@click.option("--connect", is_flag=True, help="Open the storage too, and check its tables.")
@click.pass_context
def check(
    context: click.Context,
    /,
    modules: tuple[str, ...],
    discover: bool,
    storage: str | None,
    connect: bool,
    **options: Any,
) -> None:
    """Check the jobs of MODULEs and the configuration of a worker, and run nothing.

    The arguments and options are those of `jobq worker`. Imports the modules, checks the declarations, the
    configuration and the URL of the storage, and connects to nothing without --connect. Prints each problem in one
    line. Exits with 0 without problems, with 1 otherwise.
    """
    problems = list(context.meta[CONFIGURATION].problems)
    if not modules:
        problems.append("no module to check: name one, such as `jobq check shop.jobs`, or set the key modules")
    if names_worker(modules):
        registry, unfit = _worker(modules[0])
    else:
        loaded: list[ModuleType] = []
        for name in modules:
            problems += _load(name, discover, loaded)
        registry, found = _declarations(loaded)
        problems += found
        unfit = _handlers(registry) if registry else []
    problems += [*_options(options), *unfit]
    if registry:
        problems += _queues(registry, options.get("queues"))
    if storage is not None or connect:
        problems += asyncio.run(_storage(storage, connect))
    for problem in dict.fromkeys(problems):
        click.echo(" ".join(problem.split()))
    if problems:
        context.exit(1)
    click.echo(f"ok: {describe_jobs([definition.kind for definition in registry], modules)}")


def _worker(name: str) -> tuple[Registry, list[str]]:
    """Return the jobs of a worker that a module has made, and why they cannot run."""
    registry = Registry()
    try:
        handlers, around = (worker := load_worker(name)).handlers, worker.around
        for definition in handlers.definitions():
            registry.add(definition)
    except ModuleError as error:
        return registry, [error.line]
    except JobQueueError as error:
        return registry, [str(error)]
    return registry, handlers.problems(EXECUTORS, around)


def _load(name: str, discover: bool, loaded: list[ModuleType]) -> Iterator[str]:
    """Import what a name stands for into `loaded`, and yield the problems."""
    found = []
    failed = False
    for module in walk(name, discover=discover):
        if isinstance(module, ModuleError):
            failed = True
            yield module.line
        else:
            found.append(module)
    loaded += found
    if not failed:
        try:
            check_declares(name, found)
        except ModuleError as error:
            yield error.line


def _declarations(modules: Sequence[ModuleType]) -> tuple[Registry, list[str]]:
    """Return the jobs that modules declare, and why others cannot be used: types, kinds that collide."""
    registry, problems = Registry(), []
    for module in modules:
        for declared in declared_in(module):
            try:
                registry.add(definition_of(declared))
            except JobQueueError as error:
                problems.append(f"module {module.__name__}: {error}")
    return registry, problems


def _options(options: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong about the options together; each alone was checked where it was given."""
    fields = {field.name for field in attrs.fields(WorkerOptions)}
    try:
        WorkerOptions(**{name: value for name, value in options.items() if name in fields})
    except JobQueueError as error:
        yield str(error)


def _handlers(registry: Registry) -> list[str]:
    """Return why handlers cannot run here, such as an unknown executor."""
    runnable = [definition.job_type for definition in registry if definition.handler is not None]
    problems = Handlers(runnable).problems(EXECUTORS, Around()) if runnable else []
    bare = [definition.kind for definition in registry if definition.handler is None]
    if len(bare) == len(registry):
        problems.append(f"no job has a handler: supply one with @worker.handles(…) for {', '.join(bare)}")
    return problems


def _queues(registry: Registry, queues: Sequence[str] | None) -> Iterator[str]:
    """Yield the queues to serve to which none of the jobs goes by its declaration."""
    declared = {definition.queue for definition in registry}
    for queue in queues or ():
        if None not in declared and queue not in declared:
            names = ", ".join(sorted(repr(name) for name in declared))
            yield f"queue {queue!r}: the jobs declare {names}; correct the name, or remove the queue"


async def _storage(url: str | None, connect: bool) -> list[str]:
    """Return why the storage of a URL cannot be used. Without `connect`, only the URL is checked."""
    try:
        storage = open_storage(url)
        if connect:
            async with storage:
                await storage.now()
    except JobQueueError as error:
        return [str(error)]
    return []
