"""From the way a handler ended to the Settlement to store: pure functions.

A run that was asked to stop ends as the reason says, whatever its handler then returns or raises. A handler that ended
before it could notice the request ends as it ended; `told` says whether it noticed. A handler that ends past a time
limit counts as told.
"""

from __future__ import annotations

import logging
import traceback
from asyncio import CancelledError
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final

from msgspec.structs import replace

from jobq_core.adding import decode_backoff
from jobq_core.errors import (
    AbortSignalJobError,
    InvalidJobError,
    JobDeadlineError,
    JobDisabledError,
    JobError,
    JobTimeoutError,
    RetryableJobError,
    Snooze,
    WorkerLostError,
)
from jobq_core.records import ErrorRecord, type_name
from jobq_core.retry import Backoff, deciding
from jobq_core.secret import redact
from jobq_core.states import Ending
from jobq_core.storage import ClaimedJob, Settlement, When
from jobq_worker.running.outcomes import Outcome, Raised, Returned, Settled, Unstorable
from jobq_worker.running.run import Run, Stop, log_fields

logger = logging.getLogger("jobq.worker")

MAX_MESSAGE: Final = 4_000
"""Maximum number of characters of an error message."""
MAX_TRACEBACK: Final = 16_000
"""Maximum number of characters of a traceback; a longer one keeps its beginning and its end."""

_OWN = ("jobq_worker.", "jobq_core.job")


def settlement_of(run: Run, outcome: Outcome) -> Settlement | None:
    """Return what follows from the way a handler ended; None for a run whose lease was lost. Raises nothing.

    A result that cannot be stored fails the job: the next one would not fit either.
    """
    if isinstance(outcome, Settled):
        return _settled_elsewhere(run, outcome)
    if run.written is not None:
        return _unconfirmed(run, outcome)
    if run.stop is not None and (outcome.told or run.stop is Stop.LOST):
        return stopped(run, outcome.error if isinstance(outcome, Raised) else None)
    if isinstance(outcome, Returned):
        return Settlement(run.job.id, run.job.lease, Ending.COMPLETE, outcome.result, jobs=outcome.jobs)
    if isinstance(outcome, Unstorable):
        unstored = InvalidJobError(f"the handler completed, but its result cannot be stored: {outcome.error}")
        return _settle(run, Ending.FAIL, describe(run, unstored))
    error = outcome.error if isinstance(outcome, Raised) else WorkerLostError(outcome.why)
    return _guarded(run, error, partial(_raised, run, error))


def _settled_elsewhere(run: Run, outcome: Settled) -> Settlement | None:
    """Return the settlement that a process made, unless a request to stop that did not reach it overrides it."""
    if run.stop is Stop.LOST:
        return None
    if run.stop in (Stop.TIMEOUT, Stop.DEADLINE) and not outcome.told:
        return stopped(run, None)
    return outcome.settlement


def _unconfirmed(run: Run, outcome: Outcome) -> Settlement | None:
    """Settle a run whose handler wrote its completion. If its transaction was committed, this changes nothing, and the
    storage answers that the job is completed. If it was not, the run failed."""
    error = outcome.error if isinstance(outcome, Raised) else None
    settlement = None if run.stop is None else stopped(run, error)
    if settlement is None:  # the lease may seem lost since the job is completed
        error = error or RuntimeError("the transaction that was given to complete_in was not committed")
        settlement = _guarded(run, error, partial(_raised, run, error))
    return settlement


def stopped(run: Run, error: BaseException | None) -> Settlement | None:
    """Settle a run that was asked to stop; None if its lease was lost. Raises nothing.

    error: what its handler raised, if it has ended.
    """
    return _guarded(run, error, partial(_stopped, run, error))


def _guarded(run: Run, error: BaseException | None, settle: Callable[[], Settlement | None]) -> Settlement | None:
    """Return what `settle` returns. If it raises, as a retry policy may, the job fails.

    error: what the handler raised; None for a handler that only took too long.
    """
    try:
        return settle()
    except BaseException as own:
        job = run.job
        logger.exception("job %s (%s) failed, and so did its retry policy", job.id, job.kind, extra=log_fields(job))
        what = type_name(JobTimeoutError if error is None else type(error))
        said = f"{what} was raised, and then its retry policy failed: {type_name(type(own))}"
        return _settle(run, Ending.FAIL, ErrorRecord(type=what, message=said))


def _raised(run: Run, error: BaseException) -> Settlement | None:
    if isinstance(error, CancelledError) and not error.args:
        error.args = ("the handler was cancelled, but not by its worker",)
    found = deciding(error)
    if isinstance(found, Snooze):
        return _settle(run, Ending.SNOOZE, None, found.delay)
    record = describe(run, found)
    if found is not error:
        record = replace(record, traceback=describe(run, error).traceback)
    if isinstance(found, AbortSignalJobError):
        return _settle(run, Ending.ABORT, record)
    if isinstance(found, JobDisabledError):
        return _settle(run, Ending.HOLD, record)
    return _failed(run, error, found, record)


def _stopped(run: Run, error: BaseException | None) -> Settlement | None:
    match run.stop:
        case Stop.ABORT:
            return _settle(run, Ending.ABORT, _why(run, AbortSignalJobError("aborted while it ran"), error))
        case Stop.DISABLE:
            return _settle(run, Ending.DISABLE, _why(run, JobDisabledError("disabled while it ran"), error))
        case Stop.TIMEOUT:
            late = JobTimeoutError(f"{run.job.kind} took longer than its timeout of {run.job.timeout:g} s")
            return _failed(run, late, late, _why(run, late, error))
        case Stop.DEADLINE:
            return past_deadline(run, error)
        case Stop.RELEASE:
            return _settle(run, Ending.RELEASE, None)
        case _:
            return None


def released(job: ClaimedJob) -> Settlement:
    """Hand a job back; its attempt does not count."""
    return Settlement(job.id, job.lease, Ending.RELEASE)


def suspended(job: ClaimedJob, reason: str, declaration: str | None = None) -> Settlement:
    """Keep a job back until a worker can take it; its attempt does not count.

    declaration: the one that did not take its arguments, if that is the reason.
    """
    return Settlement(job.id, job.lease, Ending.SUSPEND, reason=reason, declaration=declaration)


def past_deadline(run: Run, error: BaseException | None = None) -> Settlement:
    """Settle a run whose deadline passed, before its start or during it."""
    when = "while it ran" if run.started else "before it could start"
    return _settle(run, Ending.FAIL, _why(run, JobDeadlineError(f"its deadline passed {when}"), error))


def _failed(run: Run, error: BaseException, found: BaseException, record: ErrorRecord) -> Settlement:
    """Settle a run that failed. found: the exception in `error` that decides, if `error` is a group."""
    job, policy = run.job, run.handler.definition.retry
    if job.attempt >= job.max_attempts or not policy.retries(error):
        return _settle(run, Ending.FAIL, record)
    when: When | None = None
    if isinstance(found, RetryableJobError):
        when = found.delay if found.retry_at is None else found.retry_at
    if when is None:
        when = _backoff(run).delay(job.attempt)
    return _settle(run, Ending.RETRY, record, when)


def _backoff(run: Run) -> Backoff:
    stored = run.job.backoff
    if stored is None:
        return run.handler.definition.retry.backoff
    try:
        return decode_backoff(stored)
    except Exception:
        logger.exception(
            "job %s: its stored backoff cannot be decoded; the declared one is used",
            run.job.id,
            extra=log_fields(run.job),
        )
        return run.handler.definition.retry.backoff


def _why(run: Run, why: JobError, error: BaseException | None) -> ErrorRecord:
    """Describe why a run was stopped, with the traceback of the place where it was."""
    record = describe(run, why)
    return record if error is None else replace(record, traceback=describe(run, error).traceback)


def _settle(run: Run, ending: Ending, error: ErrorRecord | None, when: When | None = None) -> Settlement:
    return Settlement(run.job.id, run.job.lease, ending, error=error, when=when)


def describe(run: Run, error: BaseException) -> ErrorRecord:
    """Return the error's type, message and traceback, the latter from the handler's first frame on."""
    secrets = () if run.arguments is None else tuple(vars(run.arguments).values())
    frames = _handlers_own(error.__traceback__)
    text = None
    if frames is not None:
        text = "".join(traceback.TracebackException(type(error), error, frames).format())
        text = _cut(_clean(redact(text, secrets)), MAX_TRACEBACK)
    return ErrorRecord(
        type=type_name(type(error)),
        message=_cut(_clean(redact(_message(error), secrets)), MAX_MESSAGE),
        traceback=text,
    )


def _handlers_own(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(_OWN):
        trace = trace.tb_next
    return trace


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001  (an error whose str() fails must be recorded too)
        return f"<no message: str() raised {type(second).__name__}>"


def _clean(text: str) -> str:
    """Return text that every storage can keep: no NUL characters, no lone surrogates."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2 - 20
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
