"""Around a handler: call it, and say how it ended. The one place where handlers are called.

The context variable behind `current_job` is set for each run, which costs 0.09 µs of 11 µs (measured).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from jobq_core.context import JobContext
from jobq_core.current import running
from jobq_core.errors import InvalidJobError
from jobq_core.records import type_name
from jobq_worker.running.outcomes import Outcome, Raised, Returned, Unstorable
from jobq_worker.running.run import Handler, Run, Stop

_set_running: Final = running.set


async def invoke_coroutine(run: Run, ended: Callable[[Run], None]) -> None:
    """Call an async handler, set the outcome, and call `ended`."""
    handler = run.handler
    _set_running(run)
    try:
        if handler.wants_context:
            value = await handler.function(run.arguments, run.make_context())
        else:
            value = await handler.function(run.arguments)
        run.outcome = _returned(handler, value, run.stop is not None, run.context)
    except BaseException as error:
        if isinstance(error, GeneratorExit) and run.task is not None and run.task.get_loop().is_closed():
            raise  # the interpreter discards the task of a closed loop: nothing is left to settle
        run.outcome = Raised(error, told=run.stop is not None)
    run.task = None
    ended(run)


def invoke_function(run: Run) -> None:
    """Call a synchronous handler, in the present thread, and set the outcome."""
    handler = run.handler
    _set_running(run)
    try:
        if handler.wants_context:
            value = handler.function(run.arguments, run.make_context())
        else:
            value = handler.function(run.arguments)
        context = run.context
        told = run.stop is not None and (_is_past_limit(run) or (context is not None and context.told))
        run.outcome = _returned(handler, value, told, context)
    except BaseException as error:  # noqa: BLE001  (whatever a handler raises is the job's error, not the worker's)
        context = run.context
        run.outcome = Raised(error, told=_is_past_limit(run) or (context is not None and context.aborted))


def _returned(handler: Handler, value: object, told: bool, context: JobContext | None) -> Outcome:
    try:
        result = handler.definition.encode_result(value)
        return Returned(result, told) if context is None else Returned(result, told, context.take_added())
    except InvalidJobError as error:
        return Unstorable(error, told)
    except BaseException as error:  # noqa: BLE001  (the code of a registered type encodes it)
        return Unstorable(InvalidJobError(f"{type_name(type(error))}: {error}"), told)


def _is_past_limit(run: Run) -> bool:
    return run.stop is Stop.TIMEOUT or run.stop is Stop.DEADLINE
