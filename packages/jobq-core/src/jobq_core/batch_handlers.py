"""Batch handlers: classes of jobs whose `execute` runs several jobs in one call."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from jobq_core.checks import Seconds, check_count, check_seconds
from jobq_core.errors import BatchError, ConfigurationError, PermanentJobError
from jobq_core.reprs import short_repr

MAX_BATCH: Final = 1000
"""Maximum number of jobs in one call."""
MAX_WAIT_SECONDS: Final = 60.0
"""Maximum time that the first job of a batch waits for others."""
DEFAULT_WAIT_SECONDS: Final = 0.2

Answer: TypeAlias = tuple[Any, BaseException | None]
"""How one job of a batch ended: its result and None, or None and its error."""


def check_batch(batch: Any, wait: Any, executor: Any) -> tuple[int | None, float]:
    """Return the options `batch` and `wait` of `@job`; raises ConfigurationError for values that cannot work."""
    if batch is not None and executor not in (None, "async", "thread"):
        raise ConfigurationError(f"a batch runs with executor='async' or 'thread', not {short_repr(executor)}")
    if batch is None:
        if wait is not None:
            raise ConfigurationError("wait is how long a batch waits for more jobs: give batch too, as in batch=100")
        return None, 0.0
    return check_count(batch, "batch", least=1, most=MAX_BATCH), _check_wait(wait)


def _check_wait(wait: Seconds | None) -> float:
    seconds = DEFAULT_WAIT_SECONDS if wait is None else check_seconds(wait, "wait")
    if seconds > MAX_WAIT_SECONDS:
        raise ConfigurationError(f"wait must be at most {MAX_WAIT_SECONDS:g} seconds, not {short_repr(wait)}")
    return seconds


def check_batch_class(declared: type[Any], kind: str) -> None:
    """Raise ConfigurationError unless `execute` can be called with a list of jobs."""
    execute = inspect.getattr_static(declared, "execute", None)
    if execute is None:
        return
    if not isinstance(execute, classmethod | staticmethod):
        raise ConfigurationError(
            f"job {kind}: with batch=…, execute takes all jobs of a batch: write @classmethod and "
            f"`execute(cls, jobs: list[{declared.__name__}])`"
        )
    if not 1 <= len(positional(declared.execute)) <= 2:
        raise ConfigurationError(
            f"job {kind}: with batch=…, execute takes (cls, jobs), or (cls, jobs, contexts), a list of each"
        )


def positional(function: Any) -> list[inspect.Parameter]:
    """Return the parameters of a function that are not keyword-only."""
    parameters = inspect.signature(function).parameters.values()
    return [each for each in parameters if each.kind is not each.KEYWORD_ONLY]


def answers_of(kind: str, returned: Any, count: int) -> list[Answer]:
    """Return how each of the `count` jobs ended, from what a batch handler returned."""
    if returned is None:
        return [(None, None)] * count
    if not isinstance(returned, list | tuple) or len(returned) != count:
        what = f"{len(returned)}" if isinstance(returned, list | tuple) else short_repr(returned)
        wrong = PermanentJobError(f"the batch handler of {kind} must return a list of {count} results, not {what}")
        return [(None, wrong)] * count
    return [(result, None) for result in returned]


def answers_of_error(kind: str, error: BaseException, count: int) -> list[Answer]:
    """Return how each of the `count` jobs ended, from what a batch handler raised."""
    if not isinstance(error, BatchError):
        return [(None, error)] * count
    if not all(type(index) is int and 0 <= index < count for index in error.errors):
        wrong = PermanentJobError(
            f"the batch handler of {kind} raised a BatchError for jobs that its batch lacks: {error}"
        )
        return [(None, wrong)] * count
    errors: dict[int, Any] = error.errors
    unfit = [each for each in errors.values() if not isinstance(each, BaseException)]
    if unfit:
        wrong = PermanentJobError(
            f"a BatchError takes an exception for each failed job; that of the batch handler of {kind} has "
            f"{short_repr(unfit[0])}"
        )
        return [(None, wrong)] * count
    answers = answers_of(kind, error.results, count)
    return [(None, error.errors[index]) if index in error.errors else answers[index] for index in range(count)]


def only_answer(answers: Sequence[Answer]) -> Any:
    """Return the result of the one job of a batch, or raise its error."""
    [(result, error)] = answers
    if error is not None:
        raise error
    return result
