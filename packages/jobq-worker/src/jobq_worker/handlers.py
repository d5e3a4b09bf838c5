"""The handlers of a worker: for each kind of job, the body to call and where to run it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from jobq_core.errors import ConfigurationError
from jobq_core.job import JobDefinition, definition_of
from jobq_core.registry import Jobs, Registry
from jobq_core.signatures import returns_coroutine
from jobq_worker.executors.base import Executor


@attrs.define(eq=False)
class Handler:
    """How to run one kind: its definition, with the body that was supplied here where it came without one."""

    definition: JobDefinition
    function: Callable[..., Any]
    executor: Executor


class Handlers:
    """What a worker can run: the declared jobs that have a body, and the bodies supplied for bare contracts."""

    def __init__(self, jobs: Jobs) -> None:
        self._registry = Registry(jobs)
        self._supplied: dict[str, JobDefinition] = {}

    def supply(self, job_type: Any, body: Callable[..., Any]) -> None:
        """Take `body` for a bare contract; raises ConfigurationError for a kind that has a body."""
        definition = definition_of(job_type)
        kind = definition.kind
        if definition.handler is not None:
            raise ConfigurationError(f"job {kind!r} has a body of its own; only a class without one takes a handler")
        if kind in self._supplied:
            raise ConfigurationError(f"job {kind!r} has a handler already")
        self._registry.add(definition)
        parameters = inspect.signature(body).parameters
        if not 1 <= len(parameters) <= 2:
            raise ConfigurationError(
                f"the handler of {kind!r} must take (job) or (job, context), not {len(parameters)} arguments"
            )
        self._supplied[kind] = attrs.evolve(
            definition, handler=body, wants_context=len(parameters) == 2, is_async=returns_coroutine(body)
        )

    def queues(self) -> tuple[str, ...]:
        """Return where the jobs go whose submission names no queue: what they declare, and 'default' for the others."""
        return tuple(dict.fromkeys(known.queue or "default" for known in self._registry)) or ("default",)

    def definitions(self) -> list[JobDefinition]:
        """Return what can be run here; raises ConfigurationError if that is nothing."""
        found = [self._supplied.get(known.kind, known) for known in self._registry]
        runnable = [definition for definition in found if definition.handler is not None]
        if not runnable:
            bare = "".join(f"; {definition.kind!r} needs @worker.handles(…)" for definition in found)
            raise ConfigurationError(
                f"this worker knows no job to run: pass jobs=[…] or a module that declares some{bare}"
            )
        return runnable

    def table(self, executors: Iterable[Executor]) -> dict[str, Handler]:
        """Bind each kind to its executor; raises ConfigurationError for one that is not there or does not fit."""
        by_name = {executor.name: executor for executor in executors}
        return {definition.kind: _bind(definition, by_name) for definition in self.definitions()}


def _bind(definition: JobDefinition, executors: dict[str, Executor]) -> Handler:
    fitting = "async" if definition.is_async else "thread"
    wanted = definition.executor or fitting
    executor = executors.get(wanted)
    if executor is None:
        raise ConfigurationError(
            f"job {definition.kind!r} wants executor={wanted!r}; this worker has {', '.join(sorted(executors))}"
        )
    if definition.is_async != executor.runs_coroutines:
        nature = "a coroutine function" if definition.is_async else "no coroutine function"
        raise ConfigurationError(
            f"job {definition.kind!r} is {nature} and cannot run with executor={wanted!r}; use {fitting!r}"
        )
    assert definition.handler is not None  # definitions() leaves the others out
    return Handler(definition, definition.handler, executor)
