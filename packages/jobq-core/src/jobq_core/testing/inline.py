"""`run_inline`: one handler as a worker runs it, without a worker and without a storage."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from jobq_core.batch_handlers import answers_of, answers_of_error, only_answer
from jobq_core.context import JobContext
from jobq_core.errors import ConfigurationError
from jobq_core.job import Job, JobDefinition, definition_of
from jobq_core.reprs import short_repr

R = TypeVar("R")


async def run_inline(job: Job[R], /, *, context: JobContext | None = None, **resources: Any) -> R:
    """Run the handler of one job, sync or async, and return its result.

    As on the way through a storage, the handler gets arguments that were encoded and decoded, and the result is encoded
    and decoded: what does not survive JSON, or is not of the declared type, fails here too.

    context: given to a handler that takes one (default: a new one, of the job's kind and queue). A test may look at it
        afterwards, or call its `request_stop` before. A batch handler gets a batch of this one job.
    resources: what the handler gets from its worker, by the name of its parameter, as in
        `run_inline(charge(order_id=7), db=pool)`.

    Raises what the handler raises, InvalidJobError for arguments or a result that cannot be stored, and
    ConfigurationError for a Job class without `execute`.
    """
    definition, returned = _call(job, context, resources)
    result: R = _stored(definition, await returned if inspect.isawaitable(returned) else returned)
    return result


def run_inline_sync(job: Job[R], /, *, context: JobContext | None = None, **resources: Any) -> R:
    """Run the handler of one job as `run_inline` does, in a test without an event loop.

    A sync handler runs in this thread, and an async one on an event loop of its own.
    """
    definition, returned = _call(job, context, resources)
    result: R = _stored(definition, asyncio.run(_result(returned)) if inspect.isawaitable(returned) else returned)
    return result


async def _result(awaitable: Any) -> Any:
    return await awaitable


def _call(job: Any, context: JobContext | None, resources: dict[str, Any]) -> tuple[JobDefinition, Any]:
    definition = definition_of(job)
    if not isinstance(job, Job):
        raise ConfigurationError(f"{short_repr(job)} is a kind of job; call it with its arguments to make a job")
    if definition.handler is None:
        raise ConfigurationError(f"{definition.kind} has no `execute`: call the handler that the worker supplies")
    arguments: list[Any] = [definition.decode_arguments(definition.encode_arguments(job))]
    if definition.wants_context:
        arguments.append(context or _new_context(definition))
    if definition.resources.keys() != resources.keys():
        missing, unknown = (
            definition.resources.keys() - resources.keys(),
            resources.keys() - definition.resources.keys(),
        )
        what = f"needs {', '.join(sorted(missing))}" if missing else f"takes no {', '.join(sorted(unknown))}"
        raise ConfigurationError(f"the handler of {definition.kind} {what}: give its resources by name")
    handler = partial(definition.handler, **resources)
    if definition.batch is None:
        return definition, handler(*arguments)
    return definition, _batch_of_one(definition.kind, handler, *([each] for each in arguments))


def _new_context(definition: JobDefinition) -> JobContext:
    queue = definition.queue or "default"
    return JobContext(kind=definition.kind, queue=queue, max_attempts=definition.max_attempts)


def _batch_of_one(kind: str, handler: Callable[..., Any], *lists: Any) -> Any:
    """Return the result of the one job of a batch, or an awaitable of it."""
    try:
        returned = handler(*lists)
    except BaseException as error:  # noqa: BLE001  (one of BatchError is raised as that of the job)
        return only_answer(answers_of_error(kind, error, 1))
    if inspect.isawaitable(returned):
        return _await_batch_of_one(kind, returned)
    return only_answer(answers_of(kind, returned, 1))


async def _await_batch_of_one(kind: str, awaitable: Any) -> Any:
    try:
        returned = await awaitable
    except BaseException as error:  # noqa: BLE001  (as above)
        return only_answer(answers_of_error(kind, error, 1))
    return only_answer(answers_of(kind, returned, 1))


def _stored(definition: JobDefinition, result: Any) -> Any:
    return definition.decode_result(definition.encode_result(result))
