"""The result of a job in its declared type, or the exception that the job ended with.

The type of an exception is looked up among the loaded types that belong to jobs. A stored name is never imported.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from typing import Any, Final

from jobq_core.encoding import decode
from jobq_core.errors import (
    AbortSignalJobError,
    ConfigurationError,
    JobDisabledError,
    JobError,
    JobNotFoundError,
)
from jobq_core.job import JobDefinition
from jobq_core.records import type_name
from jobq_core.states import JobState
from jobq_core.storage import JobStatus

_ABOUT_THIS_JOB: Final = (AbortSignalJobError, JobDisabledError, JobNotFoundError)
"""Errors that `wait_for` raises about the job itself. A handler's error of these types is raised as a JobError."""

_CONTROL: Final = (StopIteration, StopAsyncIteration)
"""Builtin exceptions that have another meaning when a coroutine raises them."""


def is_over(status: JobStatus) -> bool:
    """Return whether waiting for the job ends with this status."""
    return status.state in (JobState.COMPLETED, JobState.FAILED, JobState.ABORTED, JobState.DISABLED)


def result_of(status: JobStatus, definition: JobDefinition | None) -> Any:
    """Return the result of a job that is over, in its declared type if that is known, or raise the job's error."""
    if status.state is JobState.COMPLETED:
        return _decode(status, definition)
    if status.state is JobState.FAILED:
        raise _noted(_error_of(status, definition.errors if definition else ()), status)
    if status.state is JobState.ABORTED:
        raise _noted(AbortSignalJobError(_say(status, "was aborted")), status)
    raise _noted(JobDisabledError(_say(status, "is disabled")), status)


def _decode(status: JobStatus, definition: JobDefinition | None) -> Any:
    data = b"null" if status.result_json is None else status.result_json
    if definition is None:
        return decode(data)
    if definition.kind != status.kind:
        raise ConfigurationError(
            f"job {status.id} is a {status.kind!r} and not a {definition.kind!r}: its unique key, or the id of its "
            "handle, belongs to that job; wait for it by its id alone, or use different keys"
        )
    return definition.decode_result(data)


def _say(status: JobStatus, what: str) -> str:
    message = f"job {status.id} ({status.kind}) {what}"
    return f"{message}: {status.error.message}" if status.error and status.error.message else message


def _noted(error: Exception, status: JobStatus) -> Exception:
    note = f"Job {status.id} ({status.kind}), attempt {status.attempt}"
    if status.worker is not None:
        note += f", on worker {status.worker}"
    if status.error is not None and status.error.traceback:
        note += f":\n{status.error.traceback.rstrip()}"
    error.add_note(note)
    return error


def _error_of(status: JobStatus, declared: Iterable[type[Exception]]) -> Exception:
    record = status.error
    if record is None:
        return JobError(f"job {status.id} ({status.kind}) failed")
    for known in _known(record.type, declared):
        made = _make(known, record.message)
        if made is not None:
            return made
    short = record.type.rpartition(".")[2]
    error = JobError(f"{short}: {record.message}" if record.message else short)
    error.type_name = record.type
    return error


def _known(name: str, declared: Iterable[type[Exception]]) -> Iterator[type[Exception]]:
    for known in declared:
        if type_name(known) == name:
            yield known
    for known in _subclasses(JobError):
        if type_name(known) == name and not issubclass(known, _ABOUT_THIS_JOB):
            yield known
    builtin = getattr(builtins, name.removeprefix("builtins."), None)
    if isinstance(builtin, type) and issubclass(builtin, Exception) and not issubclass(builtin, _CONTROL):
        yield builtin


def _subclasses(cls: type[Exception]) -> Iterator[type[Exception]]:
    yield cls
    for subclass in cls.__subclasses__():
        yield from _subclasses(subclass)


class _Shown(str):
    """Text whose repr is itself: KeyError shows the repr of its argument, which the stored message is already."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _make(known: type[Exception], message: str) -> Exception | None:
    """Make an exception of this type with this message; None if the type does not allow it."""
    text: str = _Shown(message) if issubclass(known, KeyError) else message
    try:
        error = known(text)
        if str(error) == message:
            return error
    except Exception:  # noqa: BLE001, S110  (an __init__ that takes more than a message)
        pass
    try:
        error = known.__new__(known, text)  # without __init__, which may take more, or change the message
        return error if str(error) == message else None
    except Exception:  # noqa: BLE001
        return None
