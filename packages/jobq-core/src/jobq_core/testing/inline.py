"""`run_inline`: one handler as a worker runs it, without a worker and without a storage."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, TypeVar

from jobq_core.context import JobContext
from jobq_core.errors import ConfigurationError
from jobq_core.job import Job, JobDefinition, definition_of
from jobq_core.reprs import short_repr

R = TypeVar("R")


async def run_inline(job: Job[R], /, *, context: JobContext | None = None) -> R:
    """Run the handler of one job, sync or async, and return its result.

    As on the way through a storage, the handler gets arguments that were encoded and decoded, and the result is encoded
    and decoded: what does not survive JSON, or is not of the declared type, fails here too.

    context: given to a handler that takes one (default: a new one, of the job's kind and queue). A test may look at it
        afterwards, or call its `request_stop` before.

    Raises what the handler raises, InvalidJobError for arguments or a result that cannot be stored, and
    ConfigurationError for a Job class without `execute`.
    """
    definition, returned = _call(job, context)
    result: R = _stored(definition, await returned if inspect.isawaitable(returned) else returned)
    return result


def run_inline_sync(job: Job[R], /, *, context: JobContext | None = None) -> R:
    """Run the handler of one job as `run_inline` does, in a test without an event loop.

    A sync handler runs in this thread, and an async one on an event loop of its own.
    """
    definition, returned = _call(job, context)
    result: R = _stored(definition, asyncio.run(_result(returned)) if inspect.isawaitable(returned) else returned)
    return result


async def _result(awaitable: Any) -> Any:
    return await awaitable


def _call(job: Any, context: JobContext | None) -> tuple[JobDefinition, Any]:
    definition = definition_of(job)
    if not isinstance(job, Job):
        raise ConfigurationError(f"{short_repr(job)} is a kind of job; call it with its arguments to make a job")
    if definition.handler is None:
        raise ConfigurationError(f"{definition.kind} has no `execute`: call the handler that the worker supplies")
    arguments = definition.decode_arguments(definition.encode_arguments(job))
    if not definition.wants_context:
        return definition, definition.handler(arguments)
    given = context or JobContext(
        kind=definition.kind, queue=definition.queue or "default", max_attempts=definition.max_attempts
    )
    return definition, definition.handler(arguments, given)


def _stored(definition: JobDefinition, result: Any) -> Any:
    return definition.decode_result(definition.encode_result(result))
