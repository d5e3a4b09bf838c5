"""From a job value and the options of `add` to the NewJob that a storage takes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict
from uuid import UUID

import msgspec
from msgspec.structs import replace

from jobq_core.checks import check_list, is_number
from jobq_core.errors import CENTURY, ConfigurationError
from jobq_core.job import (
    Job,
    check_max_attempts,
    check_name,
    check_priority,
    check_timeout,
    definition_of,
)
from jobq_core.reprs import short_repr
from jobq_core.retry import Backoff
from jobq_core.storage import NewJob, When


class AddOptions(TypedDict, total=False):
    """What belongs to one submission and not to the work.

    queue: where it waits (default: the job's own, else the client's).
    priority: -9 to 9, higher first (default: the job's own).
    delay: seconds or a timedelta before it may run; run_at: the moment, an aware datetime. Not both.
    deadline: seconds or a timedelta from now, or an aware datetime; past it the job is not started, and is stopped.
    timeout: seconds that one run may take (default: the job's own).
    max_attempts: how many runs at most (default: the job's own).
    retry: the Backoff between them (default: the job's own).
    unique: a key; while a job of this queue with this key has not finished, no second one is added.
    run_id: a name for all jobs of one run, to find and abort them together.
    tags: words to find the job by.
    """

    queue: str
    priority: int
    delay: float | timedelta
    run_at: datetime
    deadline: When | timedelta
    timeout: float
    max_attempts: int
    retry: Backoff
    unique: str
    run_id: str
    tags: Iterable[str]


def new_job(id: UUID, job: Job[Any] | Any, default_queue: str, options: AddOptions) -> NewJob:
    """Make the NewJob; raises InvalidJobError for arguments that cannot be kept, ConfigurationError for a bad
    option."""
    definition = definition_of(job)
    if not isinstance(job, Job):
        raise ConfigurationError(f"{short_repr(job)} is a kind of job; call it with its arguments to make a job")
    unknown = options.keys() - AddOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"add() has no option {', '.join(sorted(unknown))}")
    arguments = definition.encode_arguments(job)
    queue = options.get("queue")
    if queue is None:
        queue = definition.queue or default_queue
    timeout = options.get("timeout")
    unique = options.get("unique")
    run_id = options.get("run_id")
    deadline = options.get("deadline")
    priority = options.get("priority")
    max_attempts = options.get("max_attempts")
    return NewJob(
        id=id,
        queue=check_name(queue, "queue"),
        kind=definition.kind,
        arguments=arguments,
        priority=definition.priority if priority is None else check_priority(priority),
        run_at=_run_at(options),
        deadline=None if deadline is None else _when(deadline, "deadline"),
        timeout=definition.timeout if timeout is None else check_timeout(timeout),
        max_attempts=definition.max_attempts if max_attempts is None else check_max_attempts(max_attempts),
        backoff=_backoff(options.get("retry")),
        unique_key=None if unique is None else check_name(unique, "unique"),
        run_id=None if run_id is None else check_name(run_id, "run_id"),
        tags=_tags(options.get("tags")),
        fingerprint=definition.fingerprint_of(arguments),
    )


def new_job_like(pattern: NewJob, id: UUID, job: Job[Any]) -> NewJob:
    """Make the NewJob of another job of the same class that is submitted with the same options; raises
    InvalidJobError."""
    definition = job.definition
    arguments = definition.encode_arguments(job)
    return replace(pattern, id=id, arguments=arguments, fingerprint=definition.fingerprint_of(arguments))


def _run_at(options: AddOptions) -> When | None:
    given: dict[str, Any] = dict(options)  # what a caller without a type checker may have passed
    delay, run_at = given.get("delay"), given.get("run_at")
    if delay is not None and run_at is not None:
        raise ConfigurationError("give delay or run_at, not both")
    if isinstance(delay, datetime):
        raise ConfigurationError("delay must be seconds or a timedelta; a moment is given as run_at")
    if delay is not None:
        return _when(delay, "delay")
    if isinstance(run_at, (int, float, timedelta)):
        raise ConfigurationError("run_at must be an aware datetime; seconds are given as delay")
    return None if run_at is None else _when(run_at, "run_at")


def _when(value: Any, what: str) -> When:
    if isinstance(value, datetime):
        if value.utcoffset() is None:  # which a tzinfo may leave open
            raise ConfigurationError(f"{what} needs a time zone, as datetime.now(UTC) has")
        try:
            # As storages keep it: a moment that UTC has no year for could be written, and never be read again.
            value.astimezone(UTC)
        except OverflowError:
            raise ConfigurationError(f"{what} must lie in the years 1 to 9999 of UTC, not at {value}") from None
        return value
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not is_number(seconds) or seconds != seconds:
        raise ConfigurationError(f"{what} must be seconds, a timedelta or an aware datetime, not {short_repr(value)}")
    if not 0 <= seconds <= CENTURY:
        raise ConfigurationError(f"{what} must be from 0 seconds to 100 years, not {short_repr(value)}")
    return float(seconds)


def _backoff(retry: Any) -> bytes | None:
    if retry is None:
        return None
    if not isinstance(retry, Backoff):
        raise ConfigurationError(
            f"retry must be a Backoff, not {short_repr(retry)}; which exceptions retry is declared with @job"
        )
    return msgspec.json.encode(retry)


def decode_backoff(data: bytes | str) -> Backoff:
    """Make the Backoff again that `add(retry=…)` stored."""
    return msgspec.json.decode(data, type=Backoff)


def _tags(tags: Any) -> tuple[str, ...]:
    if tags is None:
        return ()
    example = f"tags=[{short_repr(tags)}]" if isinstance(tags, str) else "tags=['monthly']"
    checked = tuple(dict.fromkeys(check_name(tag, "a tag") for tag in check_list(tags, "tags", example)))
    if len(checked) > 50:
        raise ConfigurationError(f"a job can have 50 tags, not {len(checked)}")
    return checked
