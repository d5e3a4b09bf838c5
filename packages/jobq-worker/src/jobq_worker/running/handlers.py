"""The handlers of a worker: for each kind of job, the function to call and where to run it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from uuid import UUID

import attrs

from jobq_core.errors import ConfigurationError
from jobq_core.ids import new_id
from jobq_core.job import JobDefinition, definition_of
from jobq_core.registry import Jobs, Registry
from jobq_core.resources import resources_of
from jobq_core.signatures import read_hints, returns_coroutine
from jobq_worker.around.around import Around
from jobq_worker.around.follow_ups import follow_up_of
from jobq_worker.around.handler_portal import HandlerPortal
from jobq_worker.around.providers import Provider
from jobq_worker.around.supplying import Called
from jobq_worker.running.job_batches import member_of_batch
from jobq_worker.running.run import Executor, Handler, Run, RunContext

E = TypeVar("E", Executor, type[Executor])


class Handlers:
    """The declared jobs that have a handler, and the handlers supplied for Job classes without one."""

    def __init__(self, jobs: Jobs) -> None:
        self._registry = Registry(jobs)
        self._supplied: dict[str, JobDefinition] = {}

    def supply(self, job_type: Any, function: Callable[..., Any]) -> None:
        """Take the handler of a Job class without `execute`; raises ConfigurationError for a kind that has one."""
        definition = definition_of(job_type)
        kind = definition.kind
        if definition.handler is not None:
            raise ConfigurationError(
                f"job {kind!r} is declared with a handler; only a Job class without `execute` takes one here"
            )
        if kind in self._supplied:
            raise ConfigurationError(f"job {kind!r} has a handler already")
        self._registry.add(definition)
        self._supplied[kind] = with_handler(definition, function)

    def queues(self) -> tuple[str, ...]:
        """Return the queues of the jobs as declared, with 'default' for jobs that declare no queue."""
        return tuple(dict.fromkeys(known.queue or "default" for known in self._registry)) or ("default",)

    def declared_queues(self) -> list[str] | None:
        """Return the queues that the jobs declare, sorted; None if one of them declares no queue."""
        queues = {known.queue for known in self._registry}
        named = sorted(queue for queue in queues if queue is not None)
        return named if len(named) == len(queues) else None

    def definitions(self) -> list[JobDefinition]:
        """Return the jobs that have a handler; raises ConfigurationError if there are none."""
        found = [self._supplied.get(known.kind, known) for known in self._registry]
        runnable = [definition for definition in found if definition.handler is not None]
        if not runnable:
            bare = "".join(f"; {definition.kind!r} needs @worker.handles(…)" for definition in found)
            raise ConfigurationError(
                f"this worker has no job to run: pass jobs=[…], or a module that declares jobs{bare}"
            )
        return runnable

    def batches(self) -> dict[str, JobDefinition]:
        """Return the jobs whose handlers take a list of jobs, by kind."""
        return {definition.kind: definition for definition in self.definitions() if definition.batch is not None}

    def problems(self, executors: Iterable[type[Executor]], around: Around) -> list[str]:
        """Return why kinds cannot run with these executors and with what is around them; empty if all can."""
        by_name = {executor.name: executor for executor in executors}
        problems = []
        for definition in self.definitions():
            try:
                _fitting(definition, by_name, around)
                around.check(definition)
            except ConfigurationError as error:
                problems.append(str(error))
        return list(dict.fromkeys(problems))

    def table(
        self,
        executors: Iterable[Executor],
        around: Around,
        make_context: Callable[[Run], RunContext],
        opened: Mapping[Provider, Any],
        make_id: Callable[[], UUID] = new_id,
    ) -> dict[str, Handler]:
        """Bind each kind to its executor, with what is around its handler; raises ConfigurationError for an executor
        that is missing or does not fit.

        make_context: makes the context of a run. opened: the open resources of the worker. make_id: makes the
            id of a follow-up.
        """
        by_name = {executor.name: executor for executor in executors}
        portal = HandlerPortal()
        handlers: dict[str, Handler] = {}
        for declared in self.definitions():
            definition = declared if declared.batch is None else member_of_batch(declared)
            executor = _fitting(definition, by_name, around)
            assert definition.handler is not None  # definitions() leaves the others out
            called = Called(definition.handler, definition.wants_context)
            if executor.calls_here:
                called = around.call(definition, portal, opened)
            handlers[definition.kind] = Handler(
                definition,
                called.function,
                executor,
                definition.codec().decode_arguments,
                definition.declaration,
                called.wants_context,
                follow_up_of(definition, make_id),
                make_context,
            )
        for executor in by_name.values():
            executor.prepare([handler for handler in handlers.values() if handler.executor is executor], around)
        return handlers


def with_handler(definition: JobDefinition, function: Callable[..., Any]) -> JobDefinition:
    """Return the definition with a supplied handler; raises ConfigurationError for one of other parameters."""
    parameters = list(inspect.signature(function).parameters.values())
    resources = resources_of(parameters, read_hints(function), arguments=False)
    count = len(parameters) - len(resources)
    if not 1 <= count <= 2:
        raise ConfigurationError(
            f"the handler of {definition.kind!r} must take (job) or (job, context), not {count} arguments"
        )
    return attrs.evolve(
        definition,
        handler=function,
        wants_context=count == 2,
        is_async=returns_coroutine(function),
        resources=resources,
    )


def _fitting(definition: JobDefinition, executors: Mapping[str, E], around: Around) -> E:
    """Return the executor of a kind, or its class; raises ConfigurationError if it is missing or does not fit."""
    wanted = definition.executor or ("async" if definition.is_async else "thread")
    executor = executors.get(wanted)
    if executor is None:
        raise ConfigurationError(
            f"job {definition.kind!r} wants executor={wanted!r}; this worker has {', '.join(sorted(executors))}"
        )
    executor.check(definition, around)
    return executor
